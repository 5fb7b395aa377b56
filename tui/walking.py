"""Moves made one after the other in a thread, and what is seen at the end of them.

A key that is held down makes many moves; what lies at the places between is not read.
"""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from textual.message_pump import MessagePump

from detrec.errors import DetrecError
from detrec.replayer.survey.survey import Survey
from detrec.tui.messages import Arrived, Said
from detrec.tui.moves import Move
from detrec.tui.stand import Place

FAILURES = (ValueError, DetrecError, OSError)
"""What a broken or a vanished trace, or a move that leads nowhere, may raise: it is said."""


class Walker:
    """Keeps the place; posts `Arrived` and `Said` to `app`. `wanted` counts the moves that were asked for."""

    def __init__(self, app: MessagePump) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._moves: deque[Move] = deque()
        self._thread: threading.Thread | None = None
        self.survey: Survey | None = None
        self.place = Place()
        self.wanted = 0

    @property
    def idle(self) -> bool:
        """Has every move been made?"""
        return self._thread is None

    def go(self, move: Move) -> None:
        """Make a move when those before it are made."""
        with self._lock:
            self._moves.append(move)
            self.wanted += 1
            if self._thread is None and self.survey is not None:
                self._thread = threading.Thread(target=partial(self._walk, self.survey), daemon=True)
                self._thread.start()

    def _walk(self, survey: Survey) -> None:
        place = self.place
        while True:
            with self._lock:
                moves, number = [*self._moves], self.wanted
                self._moves.clear()
            for move in moves:
                try:
                    place = move(survey, place)
                except FAILURES as error:
                    self._app.post_message(Said(str(error)))
            arrived = self._look(survey, place, number)
            with self._lock:
                self.place = place
                if not self._moves:
                    self._thread = None
                    self._app.post_message(arrived)
                    return

    def _look(self, survey: Survey, place: Place, number: int) -> Arrived:
        cell = place.cell
        if cell is None or survey.runs is None:
            return Arrived(number, place, None, ())
        try:
            row = survey.row(cell, place.rank)
            return Arrived(number, place, row, survey.rows_of_op(cell.step, cell.op, place.rank))
        except FAILURES as error:
            self._app.post_message(Said(str(error), bad=True))
            return Arrived(number, place, None, ())


class Latest:
    """One job at a time in a thread of its own; of those that come meanwhile only the last is done."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._lock = threading.Lock()
        self._next: Callable[[], None] | None = None
        self._busy = False

    @property
    def idle(self) -> bool:
        """Is nothing being done?"""
        return not self._busy

    def do(self, job: Callable[[], None]) -> None:
        """Do it now, or after the one that runs."""
        with self._lock:
            self._next = job
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                job, self._next = self._next, None
                if job is None:
                    self._busy = False
                    return
            try:
                job()
            except FAILURES as error:
                self._failed(str(error))
