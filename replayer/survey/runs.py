"""One or two opened traces, their rows beside each other, and what their comparison said."""

from collections import OrderedDict
from functools import cached_property

import numpy as np

from detrec.engines.base import SAMPLE_OPS
from detrec.replayer.columns import Columns, recorded_columns, sample_ops
from detrec.replayer.comparison import Comparison
from detrec.replayer.pairing import Pairing, pairing
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.side import Side
from detrec.replayer.survey.states import Judged, states_alone, states_of_pairs
from detrec.replayer.survey.walk import Walk

_LATEST = 8


class Runs:
    """`replayed` is None where one run is looked at alone. `ops` are the compared ones, or all of the one
    run.

    `partner[row]`: the replayed row beside a recorded one, int32, -1 where none is; `lost`: is it missing
    that there is none? bool. `extra`: the replayed rows that have none where one is due, int64, ascending.
    What a prefix cache served in one run is not missing, nor what follows the end of a recording that was
    never closed.

    `columns`: how those of both runs stand beside each other, None of a run alone. `mask`: the ones that
    either run records at all, bool [ops, ranks]. `pairs` is there until the runs are judged: a comparison
    takes it, and it is large. TraceCorrupt for traces that contradict themselves.
    """

    def __init__(self, recorded: Side, replayed: Side | None = None) -> None:
        self.recorded, self.replayed = recorded, replayed
        self.comparison: Comparison | None = None
        self.walk: Walk | None = None
        self.partner = np.full(recorded.n_rows, -1, np.int32)
        self.lost = np.zeros(recorded.n_rows, bool)
        self.extra = np.zeros(0, np.int64)
        self.judged: Judged | None = None
        self.pairs: Pairing | None = None
        self.columns: Columns | None = None
        self._latest: OrderedDict[tuple[bool, str], np.ndarray] = OrderedDict()
        if replayed is None:
            self.ops, self.ranks = recorded.ops, recorded.ranks
            self.ids = tuple(request.id for request in recorded.requests)
            self._number: tuple[np.ndarray, ...] = (np.arange(len(self.ids), dtype=np.int32),)
            self.mask = recorded_columns(recorded, np.flatnonzero(recorded.draws_from)[:1])
            if recorded.corrupt:
                # it was looked for where nothing can be read: all may be due
                self.mask[:] = True
        else:
            self.pairs = pairs = pairing(recorded, replayed)
            self.columns, self.ids, self.mask = pairs.columns, pairs.ids, pairs.mask
            self.ops, self.ranks = self.columns.names, self.columns.n_lanes
            self._number = pairs.recorded.number, pairs.replayed.number
            self._lay_rows(pairs)

    def _lay_rows(self, pairs: Pairing) -> None:
        # rows that were computed again first: the latest row of a place is the one that counts
        here, there = pairs.earlier
        self.partner[here] = there
        self.partner[pairs.rows.recorded] = pairs.rows.replayed
        self.lost[pairs.rows.only_recorded] = True
        self.extra = pairs.rows.only_replayed

    @property
    def sides(self) -> tuple[Side, ...]:
        """The one run, or both."""
        return (self.recorded,) if self.replayed is None else (self.recorded, self.replayed)

    def judge(self, comparison: Comparison) -> None:
        """Know what a comparison of these runs found."""
        self.judged = Judged(comparison, self.recorded.row_step)
        self.walk = Walk(comparison, self.ids, self.recorded.row_step)
        self.comparison, self.pairs = comparison, None

    def number(self, side: Side, request: str) -> int:
        """The number that a run gives to a request, -1 where it has none of that id."""
        return self._numbers[side is self.replayed].get(request, -1)

    def numbers(self, side: Side) -> np.ndarray:
        """By the number that a run gives to a request, its number in `ids`, int32 [requests]."""
        return self._number[side is self.replayed]

    def rows_of(self, side: Side, request: str) -> np.ndarray:
        """The rows of a request in one run, int64, in the order in which they were computed."""
        key = side is self.replayed, request
        rows = self._latest.get(key)
        if rows is None:
            rows = self._latest[key] = np.flatnonzero(side.row_request == self.number(side, request))
            while len(self._latest) > _LATEST:
                self._latest.popitem(last=False)
        return rows

    def length(self, request: str) -> int:
        """How many positions of a request any run computed."""
        ends = [
            int(side.row_position[rows].max()) + 1
            for side in self.sides
            if len(rows := self.rows_of(side, request))
        ]
        return max(ends, default=0)

    def generations(self, request: str) -> int:
        """How often the recorded run began a request: once more than it was preempted."""
        number = self.number(self.recorded, request)
        return 1 + (len(self.recorded.preempted(number)) if number >= 0 else 0)

    def places(
        self, request: str, start: int, stop: int, generation: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows of positions [start, stop) of a request in either run, int64 [positions], -1 where none
        is.

        Of a place computed more than once, the latest row; or that of the recorded run's `generation`.
        ValueError for a request that no run has.
        """
        if request not in self.ids:
            raise ValueError(f"no request is called {request!r}")
        out = np.full((2, stop - start), -1, np.int64)
        number = self.number(self.recorded, request)
        rows = self.rows_of(self.recorded, request)
        if generation is not None:
            rows = rows[self.recorded.generation(number, self.recorded.row_step[rows]) == generation]
        position = self.recorded.row_position[rows]
        inside = (position >= start) & (position < stop)
        # ascending rows: the latest of a place is assigned last
        out[0, position[inside] - start] = rows[inside]
        if self.replayed is not None:
            there = out[0] >= 0
            out[1, there] = self.partner[out[0, there]]
            extra = self.extra
            extra = extra[self.replayed.row_request[extra] == self.number(self.replayed, request)]
            position = self.replayed.row_position[extra]
            inside = (position >= start) & (position < stop)
            alone = extra[inside][out[0, position[inside] - start] < 0]
            out[1, self.replayed.row_position[alone] - start] = alone
        return out[0], out[1]

    def cell(self, row: int, other: int | None = None, op: int = 0) -> Cell:
        """The cell of a recorded row, or of the replayed row `other` alone where `row` is -1."""
        if other is None:
            other = int(self.partner[row])
        side, at = (self.recorded, row) if row >= 0 else (self.sides[-1], other)
        step, number = int(side.row_step[at]), int(side.row_request[at])
        generation = int(side.generation(number, step))
        request = side.requests[number].id
        return Cell(step, request, int(side.row_position[at]), generation, op, row, other)

    def states(self, rows: np.ndarray, others: np.ndarray, rank: int | None = None) -> np.ndarray:
        """States of the cells of rows of either run (-1: none), uint8 [rows, ops].

        Before the comparison nothing is known to be equal: what both runs have is RECORDED.
        """
        if self.columns is None or self.replayed is None:
            return states_alone(self.recorded, self.mask, sample_ops(self.ops), rows, rank)
        sides = self.recorded, self.replayed
        return states_of_pairs(sides, self.columns, self.mask, self.lost, self.judged, rows, others, rank)

    def step_rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of steps [start, stop) in either run, and their steps, all int64 [rows], by step.

        Rows that only the replay has stand at the replay's step.
        """
        edges = self.recorded.step_rows
        first, last = (int(edges[min(max(step, 0), len(edges) - 1)]) for step in (start, stop))
        rows = np.arange(first, last, dtype=np.int64)
        steps = self.recorded.row_step[first:last].astype(np.int64)
        others = np.full(len(rows), -1, np.int64)
        if self.replayed is not None:
            others = self.partner[first:last].astype(np.int64)
            step = self.replayed.row_step[self.extra]
            extra = self.extra[(step >= start) & (step < stop)]
            if len(extra):
                rows = np.concatenate([rows, np.full(len(extra), -1, np.int64)])
                others = np.concatenate([others, extra])
                steps = np.concatenate([steps, self.replayed.row_step[extra]])
                order = np.argsort(steps, kind="stable")
                rows, others, steps = rows[order], others[order], steps[order]
        return rows, others, steps

    def samples_only(self, op: int) -> bool:
        """Does the op run on rows that sample only?"""
        return self.ops[op] in SAMPLE_OPS

    @cached_property
    def _numbers(self) -> tuple[dict[str, int], ...]:
        return tuple({request.id: i for i, request in enumerate(side.requests)} for side in self.sides)
