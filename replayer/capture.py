"""What ops of one step were given and what they gave, kept while an engine runs.

Nothing else is kept: in any other step an op costs one look at a flag.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from detrec.engines.base import SAMPLE_OPS, Step
from detrec.engines.ops import Op, Ops
from detrec.kernels.cpu.fingerprint import fingerprint
from detrec.kernels.share import Share
from detrec.replayer.arguments import ARGUMENTS


@dataclass(frozen=True, slots=True)
class Moment:
    """One op of one step.

    `op` is the entry `field` of the run's Ops table, faults included; it can be called between two steps.
    `args` are its arguments after the name: copies of what they were before it ran, the KV cache too; weights
    and all else that rows share are the engine's own. `output` is a copy. `places`: (request, position) of
    each of its rows. `share`: what this rank holds of them, where they are cut over ranks.
    """

    step: Step
    name: str
    field: str
    op: Op
    kernel: str
    args: tuple[Any, ...]
    output: np.ndarray
    places: tuple[tuple[str, int], ...]
    share: Share | None = None

    def row(self, request: str, position: int) -> int | None:
        """Which row of the output stands at this place; None where none does."""
        place = request, position
        return self.places.index(place) if place in self.places else None


class Capture:
    """An Instrument that keeps the op `name` of step `step`, and those that ran before it and after `after`.

    `moments` is by name, in the order in which they ran; empty until the step has run. `after` None, or an op
    that is not run, keeps nothing but `name`.
    """

    def __init__(self, name: str, step: int, after: str | None = None) -> None:
        self.moments: dict[str, Moment] = {}
        self.armed = False
        self._name, self._step, self._after = name, step, after
        self._open = False
        self._now: Step | None = None

    def step(self, step: Step) -> None:
        """A forward pass begins."""
        self.armed, self._open, self._now = step.index == self._step, False, step

    def equip(self, ops: Ops) -> Ops:
        """The same operations, watched."""
        return Ops(**{field: _Captured(self, field, getattr(ops, field)) for field in Ops.__slots__})

    def wants(self, name: str) -> bool:
        """Is the op that is about to run one to keep? To be asked of every op of the armed step."""
        wanted = self._open or name == self._name
        self._open = (self._open or name == self._after) and name != self._name
        return wanted

    def keep(self, name: str, field: str, op: Op, args: tuple[Any, ...], output: np.ndarray) -> None:
        """Remember it; `args` are copies already."""
        assert self._now is not None, "an op outside of any step"
        places = places_of(self._now, name)
        self.moments[name] = Moment(self._now, name, field, op, op.kernel, args, np.array(output), places)


class _Captured:
    """An op that tells a Capture when it is one to keep."""

    def __init__(self, capture: Capture, field: str, op: Op) -> None:
        self._capture, self._field, self._op = capture, field, op

    @property
    def kernel(self) -> str:
        """What ran last."""
        return self._op.kernel

    def __call__(self, name: str, *args: Any) -> Any:
        if not self._capture.armed or not self._capture.wants(name):
            return self._op(name, *args)
        # before it runs: some ops write to what they are given
        hows = (how for _, how in ARGUMENTS[self._field])
        kept = tuple(
            value if how == "shared" else _copied(value) for value, how in zip(args, hows, strict=True)
        )
        output = self._op(name, *args)
        self._capture.keep(name, self._field, self._op, kept, output)
        return output


class Writes:
    """An Instrument that keeps the fingerprint of all KV that one layer writes: `prints`, by row.

    Under (request, position), one a time that the row was computed, the latest last.
    """

    def __init__(self, layer: int | None) -> None:
        self.prints: dict[tuple[str, int], list[int]] = {}
        self._name = f"{layer}.kv_write"
        self._now = Step(-1, ())

    def step(self, step: Step) -> None:
        """A forward pass begins."""
        self._now = step

    def equip(self, ops: Ops) -> Ops:
        """The same operations, kv_write watched."""
        return replace(ops, kv_write=_Written(self, ops.kv_write))

    def wrote(self, name: str, output: np.ndarray) -> None:
        """Remember what was read back after a write."""
        if name != self._name:
            return
        prints = fingerprint(output, np.empty(len(output), np.uint64)).tolist()
        for place, found in zip(places_of(self._now, name), prints, strict=True):
            self.prints.setdefault(place, []).append(found)


class _Written:
    """kv_write, and Writes is told."""

    def __init__(self, writes: Writes, op: Op) -> None:
        self._writes, self._op = writes, op

    @property
    def kernel(self) -> str:
        """What ran last."""
        return self._op.kernel

    def __call__(self, name: str, *args: Any) -> Any:
        output = self._op(name, *args)
        self._writes.wrote(name, output)
        return output


def places_of(step: Step, name: str) -> tuple[tuple[str, int], ...]:
    """(request, position) of each row that the op has in that step."""
    if name in SAMPLE_OPS:
        return tuple((part.request, part.stop - 1) for part in step.slices if part.samples)
    return tuple((part.request, p) for part in step.slices for p in range(part.start, part.stop))


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _copied(getattr(value, f.name)) for f in fields(value)})
    return value
