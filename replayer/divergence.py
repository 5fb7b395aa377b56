"""Which divergent cells were born where they are, and which only inherited.

Pure: arrays in, one `Divergence` or None out. Within a request, (p, op) depends on every (q <= p) at
earlier ops, never on the same op; and where the runs drew different tokens, all that comes after depends on
that draw.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Divergence:
    """One cell in which the runs differ. `step` is the recorded run's; `layer` is None outside layers.

    `rank` is None where the runs have other numbers of ranks, and sums over them were compared.
    """

    step: int
    request: str
    position: int
    layer: int | None
    op: str
    rank: int | None
    recorded: int
    replayed: int


@dataclass(frozen=True, slots=True)
class DivergentRows:
    """Rows with at least one divergent cell, one array entry each.

    All int32. `row` is the recorded row, `other` the replayed one. `generation`: how often the recorded run
    had preempted the request before. `op` is the first divergent op in causal order, `at_op` the number of
    ranks that differ there, `cells` the number of divergent cells of the row.
    """

    row: np.ndarray
    other: np.ndarray
    request: np.ndarray
    generation: np.ndarray
    position: np.ndarray
    op: np.ndarray
    at_op: np.ndarray
    cells: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


def born(rows: DivergentRows, flipped: np.ndarray) -> np.ndarray:
    """Whether the cells at each row's first divergent op were born there; its later cells never were.

    `flipped[r]`: the first position of request r whose input token the runs drew differently; a number above
    every position where there is none. A cell is born when no position up to its own diverged at an earlier
    op: the first divergent op is then the running minimum over the positions of its request. A preempted
    request begins anew, with a KV cache of its own: each generation stands for itself.
    """
    if not len(rows):
        return np.zeros(0, bool)
    order = np.lexsort((rows.op, rows.position, rows.generation, rows.request))
    request, generation, op = rows.request[order], rows.generation[order], rows.op[order].astype(np.int64)
    group = np.cumsum(
        np.diff(request, prepend=-1).astype(bool) | np.diff(generation, prepend=-1).astype(bool)
    )
    # each group lies below all before it, so that one running minimum serves all of them
    lowered = op - group * (op.max() + 1)
    own = np.minimum.accumulate(lowered) == lowered
    result = np.empty(len(rows), bool)
    result[order] = own & (rows.position[order] < flipped[request])
    return result


def first_of(rows: DivergentRows, born_here: np.ndarray, row_step: np.ndarray) -> int | None:
    """The entry of the earliest born cell by (recorded step, op, row); with none born, of the earliest
    divergent.
    """
    if not len(rows):
        return None
    among = np.flatnonzero(born_here) if born_here.any() else np.arange(len(rows))
    row, op = rows.row[among], rows.op[among]
    return int(among[np.lexsort((row, op, row_step[row]))[0]])


def split_name(name: str) -> tuple[int | None, str]:
    """Layer and bare name of an op: "14.attn" is (14, "attn"), "logits" is (None, "logits")."""
    layer, dot, op = name.partition(".")
    return (int(layer), op) if dot and layer.isdigit() else (None, name)
