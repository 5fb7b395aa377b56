"""A command on a terminal of its own: what it draws, and the state in which it leaves that terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Self

from tests.command import ROOT


class Terminal:
    """`detrec ARGS` in a new pseudo-terminal; `drawn` is every byte that it has written there."""

    def __init__(
        self, *args: object, columns: int = 80, lines: int = 24, kind: str = "xterm-256color"
    ) -> None:
        self._ends: tuple[int, ...] = pty.openpty()
        self._screen, self._end = self._ends
        self.before = termios.tcgetattr(self._end)
        self.resize(columns, lines)
        environment = {**os.environ, "TERM": kind, "COLORTERM": "truecolor"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "detrec", *map(str, args)],
            cwd=ROOT, env=environment, stdin=self._end, stdout=self._end, stderr=self._end,
            start_new_session=True,
        )  # fmt: skip
        self.drawn = b""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._close()

    def _close(self) -> None:
        for end in self._ends:
            os.close(end)
        self._ends = ()

    def hang_up(self, limit: float = 60.0) -> int:
        """Close the terminal, which is nobody's controlling one: no signal tells of it. The exit code."""
        self._close()
        return self._process.wait(limit)

    def resize(self, columns: int, lines: int) -> None:
        """Another size, and the signal that tells of it."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if hasattr(self, "_process"):
            os.killpg(self._process.pid, signal.SIGWINCH)

    def until(self, text: str, limit: float = 60.0) -> bytes:
        """What is drawn until `text` has been, after the text that was waited for before."""
        begin, end = self._seen, time.monotonic() + limit
        while (at := self.drawn.find(text.encode(), begin)) < 0:
            assert time.monotonic() < end, f"{text!r} was not drawn, but {self.drawn[begin:][-2000:]!r}"
            self._read()
        # a busy reader reads at once what was drawn after it, too
        self._seen = at + len(text.encode())
        return self.drawn[begin:]

    def press(self, keys: str) -> None:
        """As a terminal sends them."""
        os.write(self._screen, keys.encode())

    def end(self, limit: float = 60.0) -> int:
        """The exit code."""
        end = time.monotonic() + limit
        while self._process.poll() is None:
            assert time.monotonic() < end, "it did not end"
            self._read()
        while self._read():
            pass
        return self._process.returncode

    @property
    def after(self) -> list[object]:
        """The terminal's settings by now."""
        return termios.tcgetattr(self._end)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._screen], [], [], 0.1)
        if ready:
            self.drawn += os.read(self._screen, 1 << 16)
        return bool(ready)
