"""Which rows of an op a fault changed, step by step."""

from tests.engines.faults.broken import Broken

Place = tuple[str, int]
"""Request and position."""


def changed(run: Broken, name: str) -> dict[int, set[Place]]:
    """By step, the rows of op `name` whose bits are not right; both runs have one schedule."""
    found: dict[int, set[Place]] = {}
    for step in run.wrong.steps:
        every = [(part.request, p) for part in step.slices for p in range(part.start, part.stop)]
        if name == "logits":
            every = [every[row] for row in step.sample_rows]
        if not every:
            continue
        right, wrong = (run.output(side, step.index, name) for side in (run.right, run.wrong))
        for place, a, b in zip(every, right, wrong, strict=True):
            if a.tobytes() != b.tobytes():
                found.setdefault(step.index, set()).add(place)
    return found


def ran(run: Broken, name: str, kernel: str) -> set[int]:
    """The steps in which op `name` was run by a kernel whose name begins so."""
    return {step for step, other in run.kernels(name) if other.startswith(kernel)}
