"""The replays of one `detrec replay`: one, or as many as --repeat says, of which one is kept."""

from typing import Any, Protocol

from detrec.opening import Room
from detrec.progress import progress_bar
from detrec.replayer.hunt import Hunt, hunt
from detrec.replayer.replay import Replay


class Rerun(Protocol):
    """`replay` of which is said what to run, and not yet what to keep."""

    def __call__(self, output: str | None, **kept: Any) -> Replay: ...


def replays(rerun: Rerun, room: Room, times: int, *, diagnose: bool, overwrite: bool) -> Hunt:
    """Run it so many times under a progress bar; replays after the first that diverged are only counted."""
    with progress_bar() as progress:

        def numbered(number: int, shown: bool) -> Replay:
            return rerun(
                room.output if shown else None,
                diagnose=diagnose and shown,
                keep_tensors=room.tensors if shown else None,
                # an earlier replay that did not diverge gives way to this one
                overwrite=overwrite or number > 1,
                progress=progress,
            )

        return hunt(numbered, times)
