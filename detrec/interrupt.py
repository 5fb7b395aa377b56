"""Ctrl-C, heard wherever it comes."""

import signal
import sys
import threading
from typing import Any

CODE = 130
"""What typer makes of Ctrl-C."""

lost = threading.Event()
"""Set where a library swallowed a Ctrl-C; what went wrong afterwards is its doing."""


def heed(unraisable: Any) -> None:
    """An exception that cannot leave a C library's callback: Ctrl-C is raised again outside, not lost."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        lost.set()
        # a signal, for it must wake a main thread that waits in a system call
        threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def deaf() -> None:
    """Once is enough: nothing more may come in while the process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
