"""Whether the ranks of one run agree in what each of them has whole: where not, that is a finding of its own.

Ranks that differ here computed other things from the same inputs, or were given other inputs: whatever came
after that is not one run.
"""

from dataclasses import dataclass

import numpy as np

from detrec.engines.base import OpKind
from detrec.replayer.divergence import split_name
from detrec.replayer.trace import Trace


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The first cell in which rank `rank` has not what rank 0 has; by step, op, row. `layer` as elsewhere."""

    step: int
    request: str
    position: int
    layer: int | None
    op: str
    rank: int


def ranks_disagree(trace: Trace) -> Disagreement | None:
    """Where the ranks of `trace` first differ in an op that every rank has whole."""
    whole = np.flatnonzero([kind is OpKind.REPLICATED for kind in trace.kinds])
    size = trace.fingerprint_chunk_rows
    found: list[tuple[int, int, int, int]] = []
    for start in range(0, trace.n_rows if trace.ranks > 1 and len(whole) else 0, size):
        stop = min(start + size, trace.n_rows)
        if _same_bytes(trace, start // size):
            continue
        first = trace.fingerprints(start, stop)[:, whole]
        for rank in range(1, trace.ranks):
            other = trace.fingerprints(start, stop, rank)[:, whole]
            row, op = np.nonzero((first != other) & (first != 0) & (other != 0))
            if len(row):
                steps = trace.row_step[start + row]
                at = np.lexsort((row, op, steps))[0]
                found.append((int(steps[at]), int(whole[op[at]]), start + int(row[at]), rank))
        # later chunks hold later steps, but for the one that both are part of
        if found and stop < trace.n_rows and trace.row_step[stop] > min(found)[0]:
            break
    if not found:
        return None
    step, column, place, rank = min(found)
    request = trace.requests[trace.row_request[place]].id
    return Disagreement(step, request, int(trace.row_position[place]), *split_name(trace.ops[column]), rank)


def _same_bytes(trace: Trace, chunk: int) -> bool:
    """Have all ranks one digest of a chunk? Where no op is cut or partial, they do."""
    digests = {trace.fingerprint_digest(rank, chunk) for rank in range(trace.ranks)}
    return len(digests) == 1 and None not in digests
