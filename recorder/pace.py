"""When what was recorded is committed: after some steps, rows or seconds, whichever comes first."""

import time


class Pace:
    """Counts from the latest commit, or from the start.

    `patience`: how many times as long as the last commit took until time alone asks for the next.
    """

    def __init__(self, steps: int, rows: int, seconds: float, patience: int = 0) -> None:
        self._most = steps, rows
        self._seconds, self._patience = seconds, patience
        self._steps = self._rows = 0
        self._due = time.monotonic() + seconds

    def add(self, rows: int) -> None:
        """One step more, of `rows` rows."""
        self._steps, self._rows = self._steps + 1, self._rows + rows

    def due(self, settled: bool = True) -> bool:
        """Is it time? A commit waits for what is not `settled`: until it is, time alone asks a turn later."""
        steps, rows = self._most
        if self._steps >= steps or self._rows >= rows:
            return True
        late = 0.0 if settled else self._seconds
        return time.monotonic() >= self._due + late

    def begin(self) -> None:
        """A commit begins."""
        self._began = time.monotonic()

    def end(self) -> None:
        """It is done, and counting begins again."""
        self._steps = self._rows = 0
        now = time.monotonic()
        self._due = now + max(self._seconds, self._patience * (now - self._began))
