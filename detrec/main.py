"""What runs the command line, and turns whatever goes wrong into a line, a hint and exit code 2."""

import os
import sys
import traceback

import typer

from detrec import interrupt
from detrec.cli import app
from detrec.console import note
from detrec.errors import DetrecError


def _helped() -> str:
    """The command whose help is wanted: the one that was named, if there is one."""
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    return f"detrec {sys.argv[1]}" if names & set(sys.argv[1:2]) else "detrec"


def _interrupted() -> int:
    interrupt.deaf()
    note("detrec: interrupted")
    return 2


def main() -> None:
    """Run the command; a DetrecError becomes one line, a hint and exit code 2.

    So does anything that goes wrong: 1 means diverged, and a crash must not be taken for a verdict.
    """
    sys.unraisablehook = interrupt.heed
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        code = app(standalone_mode=False)
        if code == interrupt.CODE:
            raise KeyboardInterrupt
    except DetrecError as error:
        note(f"detrec: error: {error}")
        if error.hint:
            note(f"hint: {error.hint}")
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = _interrupted()
    except Exception as error:
        if interrupt.lost.is_set():
            # the library that lost it stumbled over what it left undone
            _interrupted()
        # click's own errors say what was wrong: an option, a missing argument
        elif not hasattr(error, "format_message"):
            traceback.print_exc()
        elif error.format_message():
            note(f"detrec: error: {error.format_message()}")
            note(f"hint: {_helped()} --help lists what there is")
        code = 2
    sys.exit(code)
