"""What comparing two traces found."""

from dataclasses import dataclass

import numpy as np

from detrec.replayer.agreement import Disagreement
from detrec.replayer.divergence import Divergence, DivergentRows
from detrec.replayer.manifest_diff import ManifestDifference
from detrec.replayer.schedule_diff import ScheduleDiff
from detrec.replayer.step_map import StepMap
from detrec.replayer.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Counts:
    """Cells. `compared` = `equal` + `born` + `inherited`; a `missing` cell was not compared."""

    compared: int
    equal: int
    born: int
    inherited: int
    missing: int


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows. `matched` stand side by side; of `cached`, one run had the KV from its prefix cache.

    `superseded` were computed again later in their run (preemption), `missing` have no counterpart,
    `after_flip` of these follow a token that was drawn differently, `beyond` follow the end of a recording
    that was never closed.
    """

    matched: int
    cached: int
    superseded: int
    missing: int
    after_flip: int
    beyond: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`verdict`: "identical", "diverged", or "incomplete" where nothing differs and something is missing.

    `ops` were compared, on `ranks` ranks, and `incomparable` ones not: the ranks' summands, where the runs
    have other numbers of ranks. `disagreements`: where the ranks of either run first differ among themselves
    in what all of them should have. `kernels`: what ran the op of `first` in either run, where that is not
    the same. `born[i]`: were the cells at the first divergent op of row i of `divergent` born there?
    `unread` of the compared cells are equal by the digest of their chunk. `steps`: where cells differ or are
    missing, step by step.
    """

    verdict: str
    first: Divergence | None
    counts: Counts
    rows: RowCounts
    tokens: Tokens
    manifest_diff: tuple[ManifestDifference, ...]
    schedule_diff: ScheduleDiff
    kernels: tuple[str, str] | None
    ops: tuple[str, ...]
    ranks: int
    incomparable: tuple[str, ...]
    disagreements: tuple[Disagreement | None, Disagreement | None]
    divergent: DivergentRows
    born: np.ndarray
    unread: int
    seconds: float
    steps: StepMap
