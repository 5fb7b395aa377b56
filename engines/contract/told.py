"""What the tests of an engine are told of its runs: a probe that keeps all, and what can be asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detrec.engines.base import SAMPLE_OPS, Engine, Event, EventKind, Sample, Step


def prompt(seed: int, length: int) -> list[int]:
    """Token ids of a prompt."""
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def request(name: str, tokens: list[int], arrival: int = 0, **sampling: Any) -> dict[str, Any]:
    """A request as serve.yaml has it; greedy unless `sampling` says otherwise."""
    sampling = {"temperature": 0, "max_tokens": 6, **sampling}
    return {"id": name, "prompt_token_ids": tokens, "arrival": arrival, "sampling": sampling}


@dataclass
class Told:
    """Everything a probe of rank `rank` is told; outputs are copied, because engines reuse their memory."""

    rank: int = 0
    steps: list[Step] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    ops: list[list[tuple[str, np.ndarray, str]]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    finished: list[Event] = field(default_factory=list)

    def step(self, step: Step, tokens: Sequence[int] | np.ndarray) -> None:
        """A step begins, `tokens` its rows."""
        self.steps.append(step)
        self.tokens.append(list(tokens))
        self.ops.append([])

    def op(self, name: str, output: Any, rank: int, kernel: str) -> None:
        """An op has given `output`."""
        assert rank == self.rank
        self.ops[-1].append((name, np.array(output), kernel))

    def sampled(self, samples: Sequence[Sample], events: Sequence[Event]) -> None:
        """Tokens were drawn, and requests ended."""
        self.samples += samples
        self.finished += events

    def rows(self) -> dict[tuple[str, str, int], list[tuple[int, np.ndarray]]]:
        """By (op, request, position), each time it was computed: (step, its row)."""
        found: dict[tuple[str, str, int], list[tuple[int, np.ndarray]]] = {}
        for step, ops in zip(self.steps, self.ops, strict=True):
            every = [(part.request, p) for part in step.slices for p in range(part.start, part.stop)]
            drawn = [every[row] for row in step.sample_rows]
            for name, output, _ in ops:
                places = drawn if name in SAMPLE_OPS else every
                for (of, position), row in zip(places, output, strict=True):
                    found.setdefault((name, of, position), []).append((step.index, row))
        return found


class Plan:
    """A list of steps as a Scheduler."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = iter(steps)

    def next_step(self) -> Step | None:
        """The next one, None after the last."""
        return next(self._steps, None)


def heard(engine: Engine, *, plan: list[Step] | None = None, names: set[str] | None = None) -> Told:
    """Run `engine` to its end, by its own scheduler or by `plan`, told of its ops or those in `names`."""
    scheduler = engine.own_scheduler() if plan is None else engine.follow(Plan(plan))
    probe = listener(engine)
    for _ in engine.run(scheduler, probe, set(engine.op_names) if names is None else names):
        pass
    return probe


def listener(engine: Engine) -> Told:
    """A probe that can be told of outputs where `engine` has them."""
    if engine.device is None:
        return Told()
    from detrec.engines.contract.device_told import DeviceTold

    return DeviceTold()


def tiled(steps: list[Step]) -> dict[str, int]:
    """How far each request was computed, when every slice starts where the one before it stopped."""
    computed: dict[str, int] = {}
    for step in steps:
        for event in step.events:
            assert computed.get(event.request, 0) == (
                event.tokens if event.kind == EventKind.PREEMPTED else 0
            )
            computed[event.request] = 0 if event.kind == EventKind.PREEMPTED else event.tokens
        for part in step.slices:
            assert part.start == computed.get(part.request, 0), (step.index, part)
            assert part.stop > part.start
            computed[part.request] = part.stop
    return computed


def taken_by(told: Told, name: str) -> list[int]:
    """What `name` went on with."""
    return [sample.taken for sample in told.samples if sample.request == name]
