"""Which stored columns of two traces are compared: the ops of both, in causal order, on every rank of both.

An op that only one run has is missing on every row of the other, unless one of them was recorded at `level:
layer` and the op is one that this level leaves out: that is what was asked for, and the manifest says so. The
ranks' summands are other numbers where there are other ranks: between such runs they are not compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detrec.engines.base import SAMPLE_OPS, OpKind
from detrec.recorder.levels import recorded_ops
from detrec.replayer.lanes import Lanes, kinds_of, lanes_of
from detrec.replayer.trace import Trace


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns side by side: `names[i]` is column `recorded[i]` of one trace and `replayed[i]` of the other.

    Names are in the recorded run's order. `samples[i]`: the op runs on rows that sample only. `only_recorded`
    and `only_replayed` are columns that the other trace should have and has not. `lanes`: how the ranks stand
    side by side. `incomparable`: ops of either trace that mean another thing in the other.
    """

    names: tuple[str, ...]
    recorded: np.ndarray
    replayed: np.ndarray
    samples: np.ndarray
    only_recorded: np.ndarray
    only_replayed: np.ndarray
    lanes: tuple[Lanes, Lanes]
    incomparable: tuple[str, ...]

    @property
    def n_lanes(self) -> int:
        """How many ranks stand side by side."""
        return len(self.lanes[0])


def columns_of(recorded: Trace, replayed: Trace) -> Columns:
    """The columns to compare."""
    ours = {name: column for column, name in enumerate(recorded.ops)}
    theirs = {name: column for column, name in enumerate(replayed.ops)}
    incomparable: tuple[str, ...] = ()
    kinds: dict[str, OpKind] = {}
    if recorded.ranks != replayed.ranks:
        kinds = kinds_of(recorded, replayed)
        incomparable = tuple(name for name, kind in kinds.items() if kind is OpKind.PARTIAL)
        for name in incomparable:
            ours.pop(name, None)
            theirs.pop(name, None)
    names = tuple(name for name in ours if name in theirs)
    lost, extra = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    if names and set(recorded_ops(recorded.ops, "layer")) == set(replayed.ops):
        lost = []
    if names and set(recorded_ops(replayed.ops, "layer")) == set(recorded.ops):
        extra = []
    return Columns(
        names,
        np.array([ours[name] for name in names], np.int64),
        np.array([theirs[name] for name in names], np.int64),
        sample_ops(names),
        np.array([ours[name] for name in lost], np.int64),
        np.array([theirs[name] for name in extra], np.int64),
        lanes_of(recorded, replayed, np.array([kinds.get(name) is OpKind.CUT for name in names], bool)),
        incomparable,
    )


def sample_ops(names: Sequence[str]) -> np.ndarray:
    """Which ops run on rows that sample only, bool [ops]."""
    return np.array([name in SAMPLE_OPS for name in names], bool)


def recorded_columns(trace: Trace, sampling: np.ndarray) -> np.ndarray:
    """Which columns a trace records at all, bool [ops, ranks]: an op may run on some ranks only.

    Looked up in its first chunk, and for ops of rows that sample in that of the first row in `sampling`.
    """
    found = np.zeros((len(trace.ops), trace.ranks), bool)
    on_samples = sample_ops(trace.ops)
    for rows, which in ((np.arange(trace.n_rows), ~on_samples), (sampling, on_samples)):
        for rank in range(trace.ranks if len(rows) else 0):
            start = rows[0] // trace.fingerprint_chunk_rows * trace.fingerprint_chunk_rows
            stop = min(start + trace.fingerprint_chunk_rows, trace.n_rows)
            found[which, rank] = trace.fingerprints(int(start), int(stop), rank)[:, which].any(axis=0)
    return found
