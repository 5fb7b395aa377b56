"""A run with a fault beside the same run without one: what the fault says, and what it did."""

from dataclasses import dataclass
from typing import Any

from detrec.engines.base import Step
from detrec.engines.faults.base import Sighting
from tests.engines.small import Told, prompt, request, started, told

ENGINE = {"max_num_batched_tokens": 20}
"""What cuts the prompts of `pair` into chunks."""


@dataclass(frozen=True)
class Broken:
    """`notices` are what the fault told its user, `right` and `wrong` the two runs."""

    notices: list[str]
    right: Told
    wrong: Told

    def first(self) -> Sighting | None:
        """The first row of the wrong run, in the order of computation, whose bits are not right."""
        rows = self.right.rows()
        for step, ops in zip(self.wrong.steps, self.wrong.ops, strict=True):
            every = [(part.request, p) for part in step.slices for p in range(part.start, part.stop)]
            drawn = [every[row] for row in step.sample_rows]
            for name, output, _ in ops:
                places = every if len(output) == len(every) else drawn
                for (owner, position), row in zip(places, output, strict=True):
                    # a row computed twice is computed twice alike
                    (_, expected), *_ = rows[name, owner, position]
                    if row.tobytes() != expected.tobytes():
                        return Sighting(step.index, owner, position, name)
        return None

    def kernels(self, name: str) -> list[tuple[int, str]]:
        """(step, kernel) of every time the wrong run computed op `name`."""
        steps = zip(self.wrong.steps, self.wrong.ops, strict=True)
        return [(step.index, kernel) for step, ops in steps for op, _, kernel in ops if op == name]

    def output(self, run: Told, step: int, name: str) -> Any:
        """What op `name` gave in step `step`."""
        (found,) = (output for op, output, _ in run.ops[step] if op == name)
        return found


def pair(seed: int = 1) -> list[dict[str, Any]]:
    """Two requests, of which one comes later: chunks beside decodes."""
    return [request("a", prompt(seed, 24), max_tokens=6), request("b", prompt(seed + 1, 17), 1, max_tokens=6)]


def broken(fault: str, requests: list[dict[str, Any]], *, follow: bool = False, **engine: Any) -> Broken:
    """Run `requests` twice; with `follow` the second has the first one's steps and tokens, as a replay."""
    clean = started(requests, **engine)
    right = told(clean)
    notices: list[str] = []
    start: dict[str, Any] = {"fault": fault, "notify": notices.append}
    plan: list[Step] | None = None
    if follow:
        start["forced"] = {name: state.output for name, state in clean.states.items()}
        plan = right.steps
    wrong = told(started(requests, start=start, **engine), plan)
    return Broken([text for text in notices if text.startswith("fault ")], right, wrong)


def assert_seen(run: Broken, fault: str) -> Sighting:
    """The fault told once where it first changed a bit, and that is where the runs differ."""
    first = run.first()
    assert first is not None
    assert run.notices == [f"fault {fault}: first bit changed at {first}"]
    return first
