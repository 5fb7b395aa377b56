"""An op of a broken engine run again on what it got: does it give the same bits?"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detrec.engines.base import Step
from detrec.engines.ops import Ops, named
from tests.engines.faults.broken import Broken
from tests.engines.small import started


class _Kept:
    """An instrument that keeps what one op got in one step."""

    def __init__(self, field: str, at: int) -> None:
        self.field, self.at, self.now = field, at, -1
        self.call: tuple[Any, ...] = ()

    def step(self, step: Step) -> None:
        self.now = step.index

    def equip(self, ops: Ops) -> Ops:
        op = getattr(ops, self.field)

        @named(op.kernel)
        def keep(name: str, x: np.ndarray, *rest: Any) -> Any:
            if self.now == self.at and not self.call:
                self.call = name, x.copy(), *rest
            return op(name, x, *rest)

        return replace(ops, **{self.field: keep})


def outputs(fault: str, requests: list[dict[str, Any]], field: str, at: int, times: int = 12) -> list[bytes]:
    """What op `field` of step `at` gives when it is run `times` times on what it got there."""
    kept = _Kept(field, at)
    engine = started(requests, start={"fault": fault, "instruments": [kept]})
    for step, _ in engine.run(engine.own_scheduler()):
        if step.index == at:
            break
    op: Callable[..., np.ndarray] = getattr(engine.ops, field)
    return [op(*kept.call).tobytes() for _ in range(times)]


def changed(run: Broken, name: str | None = None, step: int | None = None) -> set[tuple[str, int]]:
    """(request, position) of every row of the wrong run that is not right: in op `name`, in step `step`."""
    right = run.right.rows()
    return {
        (request, position)
        for (op, request, position), rows in run.wrong.rows().items()
        for at, row in rows
        if name in (None, op) and step in (None, at)
        if row.tobytes() != right[op, request, position][0][1].tobytes()
    }
