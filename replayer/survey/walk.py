"""Divergent rows in causal order, and the next and previous from any place."""

import numpy as np

from detrec.replayer.comparison import Comparison
from detrec.replayer.survey.cell import Cell, Found


class Walk:
    """Every divergent row of a comparison, by (recorded step, op, row): `len`, `[i]`, `next` and `previous`.

    `born_only` leaves out the rows that inherited all their divergences.
    """

    def __init__(self, comparison: Comparison, ids: tuple[str, ...], row_step: np.ndarray) -> None:
        rows = comparison.divergent
        step = row_step[rows.row]
        self._rows, self._ids, self._step, self._born = rows, ids, step, comparison.born
        self._all = np.lexsort((rows.row, rows.op, step)).astype(np.int32)
        self._own = self._all if comparison.born.all() else self._all[comparison.born[self._all]]

    def count(self, *, born_only: bool = True) -> int:
        """How many."""
        return len(self._order(born_only))

    def at(self, index: int, *, born_only: bool = True) -> Found:
        """The index-th."""
        entry = int(self._order(born_only)[index])
        rows = self._rows
        cell = Cell(
            int(self._step[entry]),
            self._ids[rows.request[entry]],
            int(rows.position[entry]),
            int(rows.generation[entry]),
            int(rows.op[entry]),
            int(rows.row[entry]),
            int(rows.other[entry]),
        )
        return Found(cell, bool(self._born[entry]), int(rows.at_op[entry]), int(rows.cells[entry]))

    def index(self, cell: Cell, *, born_only: bool = True) -> int | None:
        """Which one stands at this cell, None where none does."""
        after = self._after(cell, born_only, strictly=False)
        if after < self.count(born_only=born_only) and self._key(after, born_only) == _key(cell):
            return after
        return None

    def next(self, cell: Cell, *, born_only: bool = True) -> Found | None:
        """The first after a cell; None where there is none."""
        index = self._after(cell, born_only, strictly=True)
        return self.at(index, born_only=born_only) if index < self.count(born_only=born_only) else None

    def previous(self, cell: Cell, *, born_only: bool = True) -> Found | None:
        """The last before a cell; None where there is none."""
        index = self._after(cell, born_only, strictly=False) - 1
        return self.at(index, born_only=born_only) if index >= 0 else None

    def _order(self, born_only: bool) -> np.ndarray:
        return self._own if born_only else self._all

    def _key(self, index: int, born_only: bool) -> tuple[int, int, int]:
        entry = self._order(born_only)[index]
        return int(self._step[entry]), int(self._rows.op[entry]), int(self._rows.row[entry])

    def _after(self, cell: Cell, born_only: bool, *, strictly: bool) -> int:
        """The index of the first that is not before (or, `strictly`, is after) the cell: a binary search."""
        low, high, wanted = 0, self.count(born_only=born_only), _key(cell)
        while low < high:
            middle = (low + high) // 2
            key = self._key(middle, born_only)
            if key < wanted or (strictly and key == wanted):
                low = middle + 1
            else:
                high = middle
        return low


def _key(cell: Cell) -> tuple[int, int, int]:
    return cell.step, cell.op, cell.row
