"""What the explorer asks of allocator and collector: no more memory than it needs, and no pause."""

import ctypes
import gc

# numbers of glibc's <malloc.h>; elsewhere there is no mallopt, and nothing is asked
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
_LARGE = 1 << 20


def give_back_early() -> None:
    """Let every large array have pages of its own, which go when it goes, whatever was allocated beside it.

    glibc otherwise learns to take them from its heap, of which the free parts stay with the process: of a
    trace of a million rows that is as much again as what is in use.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_ARENA_MAX, 2)


def keep_all() -> None:
    """What there is by now stays until the end: to look through it again and again for what is no longer
    needed would stop the screen for a tenth of a second each time.
    """
    gc.freeze()
