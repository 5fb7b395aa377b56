"""The terminal for the explorer alone: what libraries write meanwhile is kept from it."""

import os
import select
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from textual.driver import Driver

_SHOWN = 4000


def leaving_clean(driver: type[Driver]) -> type[Driver]:
    """A driver that empties its screen before it gives back the one from before.

    A terminal that has become larger meanwhile may else show what is left of it there.
    """

    class Clean(driver):  # type: ignore[valid-type, misc]
        def stop_application_mode(self) -> None:
            self.write("\x1b[H\x1b[2J")
            super().stop_application_mode()

    return Clean


def hung_up(terminal: int) -> bool:
    """Has the other end of it gone? SIGHUP tells only those whose controlling terminal it is."""
    look = select.poll()
    look.register(terminal, 0)
    return bool(look.poll(0))


@contextmanager
def alone() -> Iterator[None]:
    """Give the screen a stream of its own; print what else was written to stderr when the screen is gone.

    A C++ library that logs to stderr would write over what is drawn there.
    """
    screen = os.fdopen(os.dup(2), "w", encoding="utf-8")
    kept = tempfile.TemporaryFile()  # noqa: SIM115
    before, streams = (sys.__stdout__, sys.__stderr__), (os.dup(1), os.dup(2))
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        os.dup2(kept.fileno(), stream)
    # where Textual draws, and where it asks for the size
    sys.__stdout__ = sys.__stderr__ = screen  # type: ignore[misc]
    try:
        yield
    finally:
        sys.__stdout__, sys.__stderr__ = before  # type: ignore[misc]
        for stream, saved in zip((1, 2), streams, strict=True):
            os.dup2(saved, stream)
            os.close(saved)
        screen.close()
        kept.seek(0)
        os.write(2, kept.read()[-_SHOWN:])
        kept.close()
