"""Steps that a trace was given and that are not committed: kept until they are, brought into arrays early.

Ctrl-C may come between any two lines, so a step is in or out and never half: what was done of it is done
again at the same place.
"""

from collections.abc import Mapping

from detrec.recorder.columns import Columns
from detrec.recorder.schema import ArraySpec
from detrec.recorder.steps import Codes, Record, arrays_of

# steps that are brought into the arrays together: a commit then has no more than these to do
_TOGETHER = 8


class Pending:
    """Steps after those of `counts`. `early`: bring them into `columns` before they are asked for."""

    def __init__(
        self,
        columns: Columns,
        specs: Mapping[str, ArraySpec],
        codes: Codes,
        counts: dict[str, int],
        *,
        early: bool,
    ) -> None:
        self._columns, self._specs, self._codes, self._early = columns, specs, codes, early
        self._records: list[Record] = []
        self._rows = counts["rows"]
        # how many of the records are in the arrays, and what these hold then
        self._put = 0, counts

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """One step more."""
        self._records.append(record)
        if not self._early:
            return
        self._put_rows(self._rows, record)
        self._rows += record.step.rows
        if len(self._records) - self._put[0] >= _TOGETHER:
            self.put(len(self._records))

    def put(self, ready: int) -> dict[str, int]:
        """Bring the first `ready` steps into the arrays; gives what these hold then."""
        done, before = self._put
        records = self._records[done:ready]
        if not records:
            return before
        row = before["rows"]
        for record in records:
            self._put_rows(row, record)
            row += record.step.rows
        arrays, counts = arrays_of(records, before, self._codes, self._specs)
        for path, values in arrays.items():
            self._columns.by_path[path].put(before[self._specs[path].count], values)
        # both at once: an interruption between them would lose steps, or put them twice
        self._put = ready, counts
        return counts

    def after(self, ready: int, counts: dict[str, int]) -> "Pending":
        """What is left when the first `ready` steps are committed, which the arrays' `counts` end with."""
        rest = Pending(self._columns, self._specs, self._codes, counts, early=self._early)
        rest._records = self._records[ready:]
        return rest

    def _put_rows(self, row: int, record: Record) -> None:
        """Fingerprints and sketches are most of a trace: put as they come, so that no commit takes long."""
        for path, values in (("fingerprints/0", record.fingerprints), ("sketches/0", record.sketches)):
            column = self._columns.by_path.get(path)
            if column is not None and column.rows < row + len(values):
                column.put(row, values)
                column.keep_up()
