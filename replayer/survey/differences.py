"""In what steps that stand beside each other are not the same: of all of them at once."""

import numpy as np

from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.side import Side
from detrec.replayer.survey.steps import traits

PLANNED = ("step", "slices", "order", "kind", "events")
"""What a scheduler decided; "step": one run has none there."""


def differences(runs: Runs, steps: np.ndarray) -> dict[str, np.ndarray]:
    """By name in which pairs that is not the same, bool [pairs]; `steps`: int64 [pairs, 2], -1 for none.

    step, slices, order, kind, events, finished, padding, graph, kernels. Padding and graph are compared
    where both runs have one: a CPU pads nothing, which is no other padding.
    """
    both = (steps >= 0).all(axis=1)
    here, there = steps[both].T
    ours, theirs = (traits(runs, side) for side in runs.sides)
    other = {name: ours[name][here] != theirs[name][there] for name in ours}
    rows, buckets = (
        [side.column(f"steps/{name}")[at] for side, at in zip(runs.sides, (here, there), strict=True)]
        for name in ("padded_rows", "graph_bucket")
    )
    padded = (rows[0] > 0) & (rows[1] > 0)
    same = ~other["slices"]
    other["kind"] &= same & ~other["order"]
    other["order"] &= same
    # other slices are padded to another size: that goes without saying
    other["padding"] = padded & same & (rows[0] != rows[1])
    other["graph"] = padded & (buckets[0] != buckets[1])
    other["kernels"] = _other_kernels(runs.sides, here, there)
    found: dict[str, np.ndarray] = {"step": np.logical_not(both)}
    for name, differ in other.items():
        found[name] = np.zeros(len(steps), bool)
        found[name][both] = differ
    return found


def _other_kernels(sides: tuple[Side, ...], here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """A run has few tables of kernels: each two that meet are compared once."""
    tables = [side.column("steps/kernel_table")[at] for side, at in zip(sides, (here, there), strict=True)]
    _, first, of = np.unique(np.stack(tables), axis=1, return_index=True, return_inverse=True)
    differ = [sides[0].kernels_of(int(here[at])) != sides[1].kernels_of(int(there[at])) for at in first]
    return np.array(differ, bool)[of.reshape(-1)]
