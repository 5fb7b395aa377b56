"""How the ranks of two runs stand side by side, whether the runs have as many of them or not.

Where both runs have as many ranks, lane i holds rank i of both. Where they do not, an op that every rank has
whole is compared on every rank of either, and one that is cut by the sum over its ranks, in lane 0 alone.
"""

from dataclasses import dataclass

import numpy as np

from detrec.engines.base import OpKind
from detrec.kernels.share import summed
from detrec.replayer.trace import Trace


@dataclass(frozen=True, slots=True)
class Lanes:
    """One run's side: rank `ranks[i]` stands in lane i.

    `cut`, bool [ops]: the ops of which lane 0 holds the sum over all of the run's ranks and the others
    nothing; None where ranks stand beside ranks.
    """

    ranks: tuple[int, ...]
    n_ranks: int
    cut: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ranks)

    def of(self, prints: list[np.ndarray]) -> np.ndarray:
        """uint64 [rows, ops, lanes] of one uint64 [rows, ops] a rank; a view where it can be."""
        if self.cut is None:
            return prints[0][:, :, None] if len(prints) == 1 else np.stack(prints, axis=2)
        stacked = np.stack(prints, axis=2)
        lanes = stacked[:, :, self.ranks]
        lanes[:, self.cut] = 0
        lanes[:, self.cut, 0] = summed(stacked[:, self.cut])
        return lanes

    def recorded(self, by_rank: np.ndarray) -> np.ndarray:
        """Which lanes hold anything, bool [ops, lanes], of which ranks recorded it, bool [ops, ranks]."""
        if self.cut is None:
            return by_rank
        lanes = by_rank[:, self.ranks]
        lanes[self.cut] = False
        lanes[self.cut, 0] = by_rank[self.cut].all(axis=1)
        return lanes


def kinds_of(recorded: Trace, replayed: Trace) -> dict[str, OpKind]:
    """What ranks hold of each op that either run has; the run with more ranks knows."""
    fewer, more = sorted((recorded, replayed), key=lambda run: run.ranks)
    return dict(zip(fewer.ops, fewer.kinds, strict=True)) | dict(zip(more.ops, more.kinds, strict=True))


def lanes_of(recorded: Trace, replayed: Trace, cut: np.ndarray) -> tuple[Lanes, Lanes]:
    """The lanes of either run; `cut`, bool [ops], says which of the compared ops are cut over ranks."""
    if recorded.ranks == replayed.ranks:
        both = Lanes(tuple(range(recorded.ranks)), recorded.ranks)
        return both, both
    lanes = range(max(recorded.ranks, replayed.ranks))
    ours, theirs = (
        Lanes(tuple(lane if lane < run.ranks else 0 for lane in lanes), run.ranks, cut)
        for run in (recorded, replayed)
    )
    return ours, theirs
