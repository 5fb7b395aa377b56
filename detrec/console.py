"""The two streams of a command: the result on stdout and nothing else there, the narration on stderr.

What is printed came from traces, configs and paths: whatever would move a cursor or forge a line is escaped.
"""

import json
import os
import sys
from typing import Any, TextIO

from detrec.errors import DetrecError
from detrec.printable import line


def prepare() -> None:
    """Before anything is opened: give a stream that is closed a number and a place for what it is given.

    The first file that is opened would get its number, and hold what a library prints. A stdout that cannot
    encode a path escapes it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def note(text: str) -> None:
    """Narrate on stderr, in one line. Where nobody can be told, the command goes on."""
    try:
        print(line(text), file=sys.stderr, flush=True)
    except OSError:
        _mute(sys.stderr)


def say(text: str) -> None:
    """Print the result on stdout. A reader that left early has seen what it wanted: that is no error."""
    try:
        print("\n".join(map(line, text.split("\n"))), flush=True)
    except OSError as error:
        _mute(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise DetrecError(
                f"standard output cannot be written: {error.strerror}", hint="send it elsewhere"
            ) from error


def settle() -> None:
    """At the end: what cannot be flushed would fail at exit once more, and change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _mute(stream)


def show(data: Any) -> None:
    """Print one JSON object on stdout."""
    say(json.dumps(data))


def _mute(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
