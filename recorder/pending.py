"""Steps that a trace was given and that are not committed: kept until they are, brought into arrays early.

Ctrl-C may come between any two lines, so a step is in or out and never half: what was done of it is done
again at the same place.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from detrec.recorder.columns import Columns
from detrec.recorder.schema import ArraySpec
from detrec.recorder.steps import Codes, Record, arrays_of
from detrec.recorder.turned import rows_of

# steps that are brought into the arrays together: a commit then has no more than these to do
_TOGETHER = 8

_GONE = np.empty((0, 0), np.uint64)


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
        # how many of the records have their rows in the arrays, and how many rows these have then
        self._rows_put = 0, counts["rows"]
        # how many of the records are in the arrays with all of it, and what these hold then
        self._put = 0, counts

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """One step more; nothing of it is looked at once this has returned."""
        kept = replace(
            record,
            tokens=np.array(record.tokens, np.int32),
            samples=tuple(record.samples),
            finished=tuple(record.finished),
        )
        if not self._early:
            sketches = None if record.sketches is None else np.array(record.sketches)
            prints = rows_of(record.fingerprints)
            self._records.append(replace(kept, fingerprints=prints, sketches=sketches))
            return
        self._records.append(kept)
        self._put_rows(len(self._records))
        self._records[-1] = replace(kept, fingerprints=_GONE, sketches=None)
        if len(self._records) - self._put[0] >= _TOGETHER:
            self.put(len(self._records))

    def put(self, ready: int) -> dict[str, int]:
        """Bring the first `ready` steps into the arrays; gives what these hold then."""
        done, before = self._put
        records = self._records[done:ready]
        if not records:
            return before
        self._put_rows(ready)
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
        rest._rows_put = self._rows_put[0] - ready, self._rows_put[1]
        return rest

    def _put_rows(self, ready: int) -> None:
        """Fingerprints and sketches are most of a trace: put as they come, so that no commit takes long."""
        done, row = self._rows_put
        for record in self._records[done:ready]:
            self._put_at(row, "fingerprints/0", record.fingerprints)
            if record.sketches is not None:
                self._put_at(row, "sketches/0", record.sketches.reshape(record.step.rows, -1))
            done, row = done + 1, row + record.step.rows
            self._rows_put = done, row

    def _put_at(self, row: int, path: str, values: np.ndarray) -> None:
        if (column := self._columns.by_path.get(path)) is not None:
            column.put(row, values)
            column.keep_up()
