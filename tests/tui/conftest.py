"""Replays that diverged, each made once: what the explorer is looked at with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from detrec.replayer import experiments
from detrec.replayer.replay import Replay, replay
from detrec.replayer.survey.command import Replayed
from detrec.replayer.survey.survey import Survey


@dataclass(frozen=True)
class Diverged:
    """A replay of `run` with a fault, kept at `other`, its tensors in `tensors`."""

    run: str
    other: str
    tensors: str
    fault: str
    found: Replay

    def survey(self) -> Survey:
        """As `detrec replay` opens it."""
        return Survey(
            self.run,
            self.other,
            comparison=self.found.comparison,
            diagnosis=self.found.diagnosis,
            replayed=Replayed(fault=self.fault),
            tensors=self.tensors,
        )

    def traces(self) -> Survey:
        """As `detrec explore` does, which knows the two traces and no more."""
        return Survey(self.run, self.other)


@pytest.fixture(scope="session")
def diverged(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Diverged]:
    """A replay with the fault of that name: made when it is first asked for."""

    @cache
    def make(fault: str) -> Diverged:
        folder = tmp_path_factory.mktemp("diverged")
        other, tensors = str(folder / "replayed.zarr"), str(folder / "tensors")
        with pytest.MonkeyPatch.context() as patch:
            # a busy machine repeats an op less often, and the pictures tell how often
            patch.setattr(experiments, "SECONDS", 3600.0)
            found = replay(str(run), other, fault=fault, diagnose=True, keep_tensors=tensors)
        return Diverged(str(run), other, tensors, fault, found)

    return make
