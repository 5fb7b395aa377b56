"""Who keeps what a FastDeploy worker tells, and says what it is to record: the recorder stands behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from detrec.engines.base import Request
from detrec.engines.fastdeploy.rerun import Recorded
from detrec.engines.fastdeploy.tasks import Batch
from detrec.engines.fastdeploy.watch import WaitingProbe
from detrec.kernels.device import Device


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to record: these requests, or `recorded`, a run of them to be run again."""

    requests: tuple[Request, ...]
    recorded: Recorded | None = None


class Journal(Protocol):
    """Keeps what one worker tells."""

    def active(self, manifest: Mapping[str, Any]) -> None:
        """The plugin is in place: FastDeploy says nothing where it is not."""
        ...

    def refuse(self, reason: str) -> None:
        """The worker's configuration cannot be recorded."""
        ...

    def job(self) -> Job | None:
        """What to record, None until it is known."""
        ...

    def open(self, ops: Sequence[str], device: Device | None) -> tuple[WaitingProbe, tuple[str, ...]]:
        """A Probe for those of `ops` that are to be kept, and which they are."""
        ...

    def close(self, batches: Sequence[Batch], prepared: Mapping[str, Mapping[str, Any]], error: str) -> None:
        """Nothing more comes. `error` is empty where all went well."""
        ...
