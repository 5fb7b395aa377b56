"""A tiny engine in this process, and a probe that keeps all it is told."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detrec.config import serve_config
from detrec.engines.base import SAMPLE_OPS, Event, Sample, Step
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.start import start_engine


def prompt(seed: int, length: int) -> list[int]:
    """Token ids of a prompt."""
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def request(name: str, tokens: list[int], arrival: int = 0, **sampling: Any) -> dict[str, Any]:
    """A request as serve.yaml has it; greedy unless `sampling` says otherwise."""
    sampling = {"temperature": 0, "max_tokens": 6, **sampling}
    return {"id": name, "prompt_token_ids": tokens, "arrival": arrival, "sampling": sampling}


def started(
    requests: list[dict[str, Any]],
    *,
    model: str = "qwen2-tiny",
    start: dict[str, Any] | None = None,
    **engine: Any,
) -> BuiltinEngine:
    """An engine over `requests`; `start` goes to start_engine, the rest is engine settings."""
    settings = {"max_model_len": 128, **engine}
    config = serve_config({"model": f"builtin:{model}", "engine": settings, "requests": requests})
    built = start_engine(config, **(start or {}))
    assert isinstance(built, BuiltinEngine)
    return built


@dataclass
class Told:
    """Everything a probe of rank `rank` is told; outputs are copied, because engines reuse their memory."""

    rank: int = 0
    steps: list[Step] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    ops: list[list[tuple[str, np.ndarray, str]]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    finished: list[Event] = field(default_factory=list)

    def step(self, step, tokens):
        self.steps.append(step)
        self.tokens.append(list(tokens))
        self.ops.append([])

    def op(self, name, output, rank, kernel):
        assert rank == self.rank
        self.ops[-1].append((name, np.array(output), kernel))

    def sampled(self, samples, events):
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


def told(engine: BuiltinEngine, plan: list[Step] | None = None, names: set[str] | None = None) -> Told:
    """Run `engine` to its end, by `plan` or by its own scheduler, watching all ops or those in `names`."""
    probe = Told()
    scheduler = engine.own_scheduler() if plan is None else engine.follow(Plan(plan))
    for _ in engine.run(scheduler, probe, set(engine.op_names) if names is None else names):
        pass
    return probe


def tokens(engine: BuiltinEngine) -> dict[str, list[int]]:
    """What every request went on with when the engine was run to its end."""
    for _ in engine.run(engine.own_scheduler()):
        pass
    return {name: state.output for name, state in engine.states.items()}


class Plan:
    """A list of steps as a Scheduler."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = iter(steps)

    def next_step(self) -> Step | None:
        return next(self._steps, None)
