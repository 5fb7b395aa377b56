"""Which kernels ran, and where the two runs did not run the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detrec.replayer.survey.runs import Runs


@dataclass(frozen=True, slots=True)
class KernelUse:
    """An op and the kernels that ran it in both runs, "" where none did, in `steps` pairs of steps from
    `first` on.

    Of a run alone `replayed` is "". `first` is the recorded step. `differs` needs two runs.
    """

    op: int
    name: str
    recorded: str
    replayed: str
    steps: int
    first: int
    differs: bool


def kernel_uses(runs: Runs, pairs: np.ndarray) -> tuple[KernelUse, ...]:
    """Every combination of kernels, by op. `pairs`, int64 [n, 2]: steps beside each other, -1 for none."""
    alone = runs.replayed is None
    both = pairs[:, :1] if alone else pairs[(pairs >= 0).all(axis=1)]
    tables = [side.column("steps/kernel_table") for side in runs.sides]
    codes = np.stack([table[both[:, side]] for side, table in enumerate(tables)], axis=1)
    if not len(codes):
        return ()
    _, first, count = np.unique(codes, axis=0, return_index=True, return_counts=True)
    found: dict[tuple[int, str, str], tuple[int, int]] = {}
    for at, steps in zip(first.tolist(), count.tolist(), strict=True):
        names = _names(runs, both[at].tolist())
        for op, (recorded, replayed) in enumerate(names):
            known, start = found.get((op, recorded, replayed), (0, int(both[at, 0])))
            found[op, recorded, replayed] = known + steps, min(start, int(both[at, 0]))
    uses = [
        KernelUse(op, runs.ops[op], ours, theirs, steps, start, not alone and ours != theirs)
        for (op, ours, theirs), (steps, start) in found.items()
    ]
    return tuple(sorted(uses, key=lambda use: (use.op, use.first)))


def _names(runs: Runs, steps: Sequence[int]) -> list[tuple[str, str]]:
    """By op of `runs.ops` the kernels of both runs."""
    ours = runs.recorded.kernels_of(steps[0])
    if runs.columns is None or runs.replayed is None:
        return [(name, "") for name in ours]
    theirs, columns = runs.replayed.kernels_of(steps[1]), runs.columns
    return [(ours[a], theirs[b]) for a, b in zip(columns.recorded, columns.replayed, strict=True)]
