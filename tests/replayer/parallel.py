"""Traces in memory of one run on any number of ranks."""

from typing import Any

import numpy as np

from detrec.engines.base import OpKind
from tests.replayer.fakes import FakeTrace, fake_trace, part

OPS = ("embedding", "0.qkv", "0.attn", "0.o_partial", "0.o_proj", "0.output", "logits", "sampled")
KINDS = tuple(
    OpKind.CUT if op in ("0.qkv", "0.attn") else OpKind.PARTIAL if op == "0.o_partial" else OpKind.REPLICATED
    for op in OPS
)
STEPS = [
    [part("r0", 0, 4), part("r1", 0, 3, samples=False)],
    [part("r0", 4, 5), part("r1", 3, 6)],
    [part("r0", 5, 6), part("r1", 6, 7)],
]


def parallel_trace(ranks: int, steps: list[Any] = STEPS, **attributes: Any) -> FakeTrace:
    """A run of `steps` on `ranks` ranks: the same in all but the ranks' summands, whatever their number."""
    whole = fake_trace(steps, ops=OPS).cells[0]
    # every op has a cell of its own: the builder knows fewer names
    whole += (np.arange(len(OPS), dtype=np.uint64) << np.uint64(40)) * (whole != 0)
    trace = fake_trace(steps, ops=OPS, ranks=ranks, kinds=KINDS if ranks > 1 else (), **attributes)
    rng = np.random.default_rng(ranks)
    for column, kind in enumerate(KINDS):
        if kind is OpKind.REPLICATED or ranks == 1:
            trace.cells[:, :, column] = whole[:, column]
            continue
        trace.cells[:, :, column] = rng.integers(1, 2**63, (ranks, trace.n_rows), np.uint64)
        if kind is OpKind.CUT:
            others = trace.cells[1:, :, column].sum(axis=0, dtype=np.uint64)
            trace.cells[0, :, column] = whole[:, column] - others
    return trace
