"""Kernels that are compiled while a run goes on: told of where they take long.

Another dtype, sketches or a fault need kernels that a machine which has compiled others has not had yet.
"""

import time
from collections.abc import Callable

from numba.core import event

PATIENCE_S = 3.0


class _Listener(event.Listener):
    """Adds up the time of compiles, which hold each other, and tells once, when that is PATIENCE_S."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._depth = 0
        self._since = 0.0
        self._spent = 0.0
        self._told = False

    def on_start(self, event: event.Event) -> None:
        if not self._depth:
            self._since = time.monotonic()
        self._depth += 1
        self._look()

    def on_end(self, event: event.Event) -> None:
        self._look()
        self._depth -= 1
        if not self._depth:
            self._spent += time.monotonic() - self._since

    def _look(self) -> None:
        if not self._told and self._spent + time.monotonic() - self._since >= PATIENCE_S:
            self._told = True
            self._tell()


_listeners: list[_Listener] = []


def tell_if_long(tell: Callable[[], None]) -> None:
    """Call `tell` once in this process, as soon as compiling took PATIENCE_S in all from now on.

    A second call changes nothing. What is loaded from the cache is not compiled.
    """
    if not _listeners:
        _listeners.append(_Listener(tell))
        event.register("numba:compile", _listeners[0])
