"""How recorders end before their time: by Ctrl-C in the middle of a write, and killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detrec.recorder.store import LocalStore


class CtrlC:
    """Raises KeyboardInterrupt once, behind a `write` or `patch` of any LocalStore that has been done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = 0
        for name in ("write", "patch"):
            self._interrupt(monkeypatch, name)

    def after(self, calls: int) -> None:
        """Behind so many calls from here, 1 is the next."""
        self._left = calls

    def _interrupt(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(LocalStore, name)

        def interrupted(store: LocalStore, *args: object) -> None:
            self._left -= 1
            original(store, *args)
            if self._left == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(LocalStore, name, interrupted)


class Forker:
    """A process that forks recorders, so that each need not be imported anew."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def fork(self, line: str) -> list[int]:
        """The processes that it forks to do what `line` says."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return [int(process) for process in self._answer().split()]

    def wait(self) -> None:
        """Until they have ended."""
        assert self._answer() == "dead\n"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def forker(code: str) -> Iterator[Forker]:
    """Runs `code`, which answers a line with the processes it forked, and with `dead` when they ended."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        yield Forker(process)
