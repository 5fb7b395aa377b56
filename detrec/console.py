"""The two streams of a command: the result on stdout and nothing else there, the narration on stderr."""

import json
import os
import sys
from typing import Any

from detrec.errors import DetrecError


def note(text: str) -> None:
    """Narrate on stderr."""
    print(text, file=sys.stderr)


def say(text: str) -> None:
    """Print the result on stdout. A reader that left early has seen what it wanted: that is no error."""
    try:
        print(text, flush=True)
    except OSError as error:
        # what is still buffered would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise DetrecError(
                f"standard output cannot be written: {error.strerror}", hint="send it elsewhere"
            ) from error


def show(data: Any) -> None:
    """Print one JSON object on stdout."""
    say(json.dumps(data))
