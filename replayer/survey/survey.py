"""A survey of one trace, or of two beside each other: the one way in.

Opening reads what is small. `compare` reads the fingerprints, once; until it has run nothing is called
equal or diverged. Everything else reads what its answer needs, and may be asked from any thread. Nothing is
raised for a trace that is broken: `conditions` says what it is, and what cannot be read is shown as that.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from detrec.errors import DetrecError, TraceError
from detrec.recorder.reader import TraceReader
from detrec.replayer.compare import compare
from detrec.replayer.comparison import Comparison
from detrec.replayer.diagnosis import Diagnosis
from detrec.replayer.divergence import Divergence
from detrec.replayer.survey import command, goto, kernels, kv, maps, rows, tensors, tokens
from detrec.replayer.survey.cell import Cell, Found
from detrec.replayer.survey.command import Replayed
from detrec.replayer.survey.condition import Condition, condition_of, opened
from detrec.replayer.survey.grid import Grid, Window
from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.schedule import Schedule
from detrec.replayer.survey.side import Side
from detrec.replayer.survey.vocabulary import vocabulary

if TYPE_CHECKING:
    # it loads the engine, which no look at a trace needs
    from detrec.replayer.survey.measure import Measured

Progress = Callable[[str, int, int], None]


class Survey:
    """RUN alone, or RUN and OTHER; `runs` is None where RUN cannot be read, `problem` says what went wrong.

    `comparison` and `diagnosis` are given where a replay has made them. `replayed` says how OTHER was made,
    which may be up to a step that RUN, too, is then seen up to; `tensors` names the folder that
    --keep-tensors filled.
    """

    def __init__(
        self,
        run: str,
        other: str | None = None,
        *,
        comparison: Comparison | None = None,
        diagnosis: Diagnosis | None = None,
        replayed: Replayed | None = None,
        tensors: str | None = None,
    ) -> None:
        self.run, self.other, self.made_by, self.tensor_folder = run, other, replayed, tensors
        self.diagnosis = diagnosis
        self.measured: Measured | None = None
        """What was last measured, of any cell."""
        self._lock = threading.RLock()
        # a comparison takes seconds, in which everything else must be had
        self._comparing = threading.Lock()
        self._schedule: Schedule | None = None
        self._kv: tuple[kv.KvUse | None, ...] | None = None
        self._open()
        if comparison is not None and self.runs is not None and self.runs.replayed is not None:
            self.runs.judge(comparison)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What state each trace is in; corrupt chunks count from when they are met."""
        return tuple(
            known
            if side is None or not side.corrupt
            else condition_of(side.reader, tuple(side.corrupt.values()))
            for known, side in zip(self._opened, self._sides, strict=True)
        )

    @property
    def comparison(self) -> Comparison | None:
        """What comparing the runs found; None before `compare`, and for a run alone."""
        return None if self.runs is None else self.runs.comparison

    def compare(
        self, progress: Progress | None = None, sighted: Callable[[Divergence], None] | None = None
    ) -> Comparison | None:
        """Compare the runs, and see what they tell of the cause; None where there are not two to compare.

        `sighted` is told of the first divergence as soon as it is met, which may be long before the end.
        """
        with self._comparing:
            runs = self.runs
            if runs is None or runs.replayed is None or runs.comparison is not None:
                return None if runs is None else runs.comparison
            try:
                found = compare(
                    runs.recorded, runs.replayed, pairs=runs.pairs, progress=progress, sighted=sighted
                )
                runs.judge(found)
                if self.diagnosis is None and found.first is not None and runs is self.runs:
                    # it loads the CPU's kernels, which no look at a trace needs
                    from detrec.replayer.explain import explain_traces

                    self.diagnosis = explain_traces(runs.recorded.reader, runs.replayed.reader, found)
            except DetrecError as error:
                self.problem = str(error)
            return runs.comparison

    def refresh(self) -> bool:
        """Look whether a trace grew or was closed; if so it is opened anew, and `compare` is due again."""
        with self._lock:
            before = [side and _stamp(side.reader) for side in self._sides]
            after = [_peek(path, steps) for path, steps in self._paths]
            if before == after:
                return False
            self._open()
            # what was said of less may not hold for more
            self.diagnosis = self.measured = None
            return True

    def first(self) -> Found | None:
        """The first divergence in causal order; None where none is known."""
        walk = None if self.runs is None else self.runs.walk
        for born_only in (True, False):
            if walk is not None and walk.count(born_only=born_only):
                return walk.at(0, born_only=born_only)
        return None

    def next(self, cell: Cell, *, born_only: bool = True) -> Found | None:
        """The first divergent row after a cell, by (step, op, row)."""
        walk = self._known.walk
        return None if walk is None else walk.next(cell, born_only=born_only)

    def previous(self, cell: Cell, *, born_only: bool = True) -> Found | None:
        """The last divergent row before a cell."""
        walk = self._known.walk
        return None if walk is None else walk.previous(cell, born_only=born_only)

    def goto(self, text: str, here: Cell | None = None) -> Cell:
        """The cell that a text names ("step 12", "r3:45", "14.attn"). ValueError, with what to say."""
        return goto.goto(self._known, text, here)

    def grid(self, window: Window) -> Grid:
        """A heat map. ValueError for a request that no run has."""
        return maps.grid_of(self._known, window)

    def row(self, cell: Cell, rank: int | None = None) -> rows.Row:
        """Every op of the cell's row, in causal order."""
        return rows.row_of(self._known, cell, rank)

    def rows_of_op(self, step: int, op: int, rank: int | None = None) -> tuple[rows.RowOfOp, ...]:
        """One op of every row of a recorded step, in the order of the batch."""
        return rows.rows_of_op(self._known, step, op, rank)

    @property
    def schedule(self) -> Schedule:
        """The steps of both runs beside each other; the first look at it takes a moment."""
        with self._lock:
            if self._schedule is None:
                self._schedule = Schedule(self._known)
            return self._schedule

    def kv(self) -> tuple[kv.KvUse | None, ...]:
        """The KV blocks that each run held, by step; None where a manifest does not say how large
        they are.
        """
        with self._lock:
            if self._kv is None:
                self._kv = tuple(kv.kv_use(side) for side in self._known.sides)
            return self._kv

    def tokens(self, request: str) -> tokens.RequestTokens:
        """The tokens of a request in both runs. ValueError for a request that no run has.

        The first look at a model's vocabulary may take a second.
        """
        return tokens.tokens_of(self._known, request, vocabulary(self._known.recorded.manifest))

    def kernels(self) -> tuple[kernels.KernelUse, ...]:
        """Which kernels ran each op in either run."""
        return kernels.kernel_uses(self._known, self.schedule.steps)

    def tensors(self) -> tensors.Tensors | None:
        """What --keep-tensors kept; None where no folder is known, or it holds none (`problem` says why)."""
        try:
            return None if self.tensor_folder is None else tensors.kept_tensors(self.tensor_folder)
        except TraceError as error:
            self.problem = str(error)
            return None

    def command(self) -> str:
        """The detrec command that reproduces what is shown, for a POSIX shell."""
        return command.command(self.run, self.other, self.made_by)

    @property
    def _paths(self) -> list[tuple[str, int | None]]:
        """The traces, and how many of their steps are looked at where that is not all."""
        until = None if self.made_by is None else self.made_by.until
        run = self.run, None if until is None else until + 1
        return [run] if self.other is None else [run, (self.other, None)]

    @property
    def _known(self) -> Runs:
        if self.runs is None:
            raise ValueError(self.problem)
        return self.runs

    def _open(self) -> None:
        found = [opened(path, steps) for path, steps in self._paths]
        self._opened = [known for known, _ in found]
        self._sides = [None if reader is None else Side(reader) for _, reader in found]
        self.runs: Runs | None = None
        self._schedule = self._kv = None
        self.problem = next((known.detail for known, reader in found if reader is None), "")
        readable = [side for side in self._sides if side is not None]
        if self._sides[0] is None:
            return
        try:
            self.runs = Runs(*readable)
        except DetrecError as error:
            self.problem = str(error)


def _stamp(reader: TraceReader) -> tuple[str, str, int]:
    return reader.uuid, reader.status, reader.n_steps


def _peek(path: str, steps: int | None) -> tuple[str, str, int] | None:
    try:
        return _stamp(TraceReader(path, steps=steps))
    except DetrecError:
        return None
