"""Who records a trace: one recorder at a time, known by a lock on its folder that ends with the process.

Where a file system has no such locks nobody is seen to record, and nobody is hindered.
"""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # where there is no flock
    fcntl = None  # type: ignore[assignment]


class Claim:
    """The folder `path`, which nobody else records to until this is released, or the process ends."""

    def __init__(self, path: str | Path) -> None:
        self._file: int | None = None
        if fcntl is None:
            return
        self._file = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Give it up; a second time changes nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.release()


def claim(path: str | Path) -> Claim | None:
    """A claim on a new folder; None where the file system has none."""
    try:
        return Claim(path)
    except OSError:
        return None


def is_claimed(path: str | Path) -> bool:
    """Is somebody recording to that folder just now?"""
    try:
        Claim(path).release()
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
