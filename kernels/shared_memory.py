"""Memory that processes of one host share, and that cannot outlive them.

It has no name in any folder: others reach it through the process that made it, and the kernel frees it when
nobody maps it any more, however they ended. /dev/shm, which containers keep small, is not used.
"""

import mmap
import os

import numpy as np

from detrec.errors import EngineError

# file descriptors of blocks made here, by name: others can attach while they are open
_made: dict[str, int] = {}


def make(nbytes: int) -> str:
    """Make a block of zeros; gives the name to `attach` it by until `let_go`. EngineError where it cannot."""
    if not hasattr(os, "memfd_create"):
        raise EngineError("ranks meet in Linux's memfd memory, which this system does not have")
    try:
        fd = os.memfd_create("detrec", os.MFD_CLOEXEC)
        os.ftruncate(fd, nbytes)
    except OSError as error:
        raise EngineError(f"no {nbytes} bytes of shared memory: {error.strerror}") from error
    name = f"/proc/{os.getpid()}/fd/{fd}"
    _made[name] = fd
    return name


def attach(name: str) -> np.ndarray:
    """The block as uint8 [nbytes], for as long as the array lives. EngineError where it is not there."""
    try:
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise EngineError(
            f"{name}: no such shared memory: {error.strerror}", hint="the process that made it is gone"
        ) from error
    try:
        return np.frombuffer(mmap.mmap(fd, 0), np.uint8)
    except (OSError, ValueError, OverflowError) as error:
        raise EngineError(f"{name}: cannot be mapped as shared memory: {error}") from error
    finally:
        os.close(fd)


def let_go(name: str) -> None:
    """Nobody can attach a block that was made here any more; who has it keeps it."""
    fd = _made.pop(name, None)
    if fd is not None:
        os.close(fd)
