"""Caches of kernels that nobody uses any more: each version of the sources leaves a folder of its own.

A folder is in use for DAYS after its time, which whoever compiles or loads a kernel renews by `use`.
"""

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

DAYS = 30
_NAME = re.compile(r"kernels-[0-9a-f]{16}(\.removed-\d+)?")


def use(folder: str) -> None:
    """Make the folder if there is none, removing old ones beside it, and renew its time.

    OSError where it cannot be made.
    """
    new = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    # one that may be written and is another user's has a time of that user's
    with suppress(OSError):
        os.utime(folder)
    if new:
        remove_old(Path(folder))


def remove_old(beside: Path) -> None:
    """Remove the caches in the same place that nobody used for DAYS. What cannot be removed stays."""
    oldest = time.time() - DAYS * 86400
    for path in list(beside.parent.iterdir()):
        # an OSError: another process was quicker, or may what this one may not
        with suppress(OSError):
            if path != beside and _NAME.fullmatch(path.name) and _ours(path) and _time(path) < oldest:
                _remove(path, oldest)


def _remove(path: Path, oldest: float) -> None:
    """Aside at once, so that nobody finds half of it; back again if somebody just began to use it."""
    aside = path.with_name(f"{path.name.partition('.')[0]}.removed-{os.getpid()}")
    path.rename(aside)
    if _time(aside) < oldest:
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(path)


def _ours(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid()


def _time(path: Path) -> float:
    return path.stat().st_mtime
