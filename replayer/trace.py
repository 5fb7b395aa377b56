"""What compare needs of a trace: arrays by row, slices and samples, fingerprints a few rows at a time."""

from typing import Any, Protocol

import numpy as np

from detrec.engines.base import OpKind, Request


class Samples(Protocol):
    """The draws of a run in the order in which they were made, one array entry each; fields as in `Sample`.

    `request` indexes the trace's `requests`.
    """

    @property
    def step(self) -> np.ndarray: ...
    @property
    def request(self) -> np.ndarray: ...
    @property
    def position(self) -> np.ndarray: ...
    @property
    def token(self) -> np.ndarray: ...
    @property
    def margin(self) -> np.ndarray: ...
    @property
    def seed(self) -> np.ndarray: ...
    @property
    def counter(self) -> np.ndarray: ...


class Trace(Protocol):
    """A trace up to its last committed step. `status` is "recording", "complete" or "failed"."""

    @property
    def path(self) -> Any: ...
    @property
    def status(self) -> str: ...
    @property
    def manifest(self) -> dict[str, Any]: ...
    @property
    def ops(self) -> tuple[str, ...]: ...
    @property
    def ranks(self) -> int: ...
    @property
    def kinds(self) -> tuple[OpKind, ...]: ...
    @property
    def requests(self) -> tuple[Request, ...]: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def n_steps(self) -> int: ...
    @property
    def row_step(self) -> np.ndarray: ...
    @property
    def row_request(self) -> np.ndarray: ...
    @property
    def row_position(self) -> np.ndarray: ...
    @property
    def row_token(self) -> np.ndarray: ...
    @property
    def fingerprint_chunk_rows(self) -> int: ...

    def samples(self) -> Samples:
        """Every draw."""
        ...

    def column(self, path: str) -> np.ndarray:
        """A whole array: `steps/slice_start`, and those of `slices` and `events`."""
        ...

    def fingerprints(self, start: int, stop: int, rank: int = 0, *, checked: bool = True) -> np.ndarray:
        """uint64 [stop - start, ops]; 0 is not recorded. Not `checked`, no digest is looked at."""
        ...

    def fingerprint_digest(self, rank: int, chunk: int) -> str | None:
        """The digest of one stored chunk, or None where it has none."""
        ...

    def kernels_of(self, step: int) -> tuple[str, ...]:
        """The kernel that ran each op of `ops` in that step."""
        ...


class SketchedTrace(Trace, Protocol):
    """A trace that may have sketches."""

    @property
    def has_sketches(self) -> bool: ...

    def sketches(self, start: int, stop: int) -> np.ndarray:
        """Those of rank 0, float32 [stop - start, ops, parts]; NaN where there is none."""
        ...


def engines_of(*traces: Trace) -> set[str]:
    """The names of the engines that made them; who says nothing is the built-in one."""
    return {trace.manifest["config"]["engine"].get("name", "builtin") for trace in traces}
