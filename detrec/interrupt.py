"""Ctrl-C, heard wherever it comes, and a request to end, taken for one."""

import signal
import sys
import threading
from types import FrameType

CODE = 130
"""What typer makes of Ctrl-C."""

lost = threading.Event()
"""Set where a library swallowed a Ctrl-C; what went wrong afterwards is its doing."""

ending = threading.Event()
"""Set once a command was told to end: what half-made objects say when they are thrown away is no news."""

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def listen() -> None:
    """A `kill` and a terminal that closes end a command as Ctrl-C does: traces closed, scratch removed.

    They stay ignored where they are, as nohup wants it.
    """
    sys.unraisablehook = heed
    for number in (signal.SIGINT, *_ENDING):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    ending.set()
    signal.default_int_handler(number, frame)


def heed(unraisable: "sys.UnraisableHookArgs") -> None:
    """An exception that cannot leave a C library's callback: Ctrl-C is raised again outside, not lost."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        lost.set()
        main = threading.main_thread().ident
        assert main is not None
        # a signal, for it must wake a main thread that waits in a system call
        threading.Timer(0.01, signal.pthread_kill, (main, signal.SIGINT)).start()
    elif not ending.is_set():
        sys.__unraisablehook__(unraisable)


def done() -> None:
    """All has been said: a Ctrl-C while libraries end their threads would only change the exit code."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def deaf() -> None:
    """Once is enough: nothing more may come in while the process ends."""
    for number in (signal.SIGINT, *_ENDING):
        signal.signal(number, signal.SIG_IGN)
    # CPython remembers a Ctrl-C that came inside an exec() and ends by that signal, whatever the exit code
    exec("")
