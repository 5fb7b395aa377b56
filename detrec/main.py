"""What runs the command line, and turns whatever goes wrong into a line, a hint and exit code 2.

Only what is light is imported at the top: a Ctrl-C while the rest is loaded is heard too.
"""

import sys

from detrec import interrupt


def main() -> None:
    """Run the command; a DetrecError becomes one line, a hint and exit code 2.

    So does anything that goes wrong: 1 means diverged, and a crash must not be taken for a verdict.
    """
    interrupt.listen()
    try:
        code = _run()
        interrupt.done()
    except KeyboardInterrupt:
        code = _interrupted()
    sys.exit(code)


def _run() -> int | None:
    from detrec import console
    from detrec.cli import app
    from detrec.errors import DetrecError

    console.prepare()
    try:
        code: int | None = app(standalone_mode=False)
        return _interrupted() if code == interrupt.CODE else code
    except DetrecError as error:
        # what came of a trace that could not be ended in good order
        for text in getattr(error, "__notes__", ()):
            console.note(text)
        return _refused(str(error), error.hint)
    except SystemExit as error:
        # raised by who prints helps and completions: a reader that left has seen what it wanted
        return 2 if error.code and not isinstance(error.__context__, BrokenPipeError) else 0
    except Exception as error:
        return _failed(error)
    finally:
        console.settle()


def _refused(message: str, hint: str) -> int:
    from detrec.console import note

    note(f"detrec: error: {message}")
    if hint:
        note(f"hint: {hint}")
    return 2


def _interrupted() -> int:
    interrupt.deaf()
    from detrec.console import note

    note("detrec: interrupted")
    return 2


def _failed(error: Exception) -> int:
    import traceback

    import typer

    from detrec.console import note

    # a library that lost a Ctrl-C stumbles over what it left undone
    if isinstance(error, typer.Abort) or interrupt.lost.is_set():
        return _interrupted()
    # click's own errors say what was wrong: an option, a missing argument
    if hasattr(error, "format_message"):
        message = error.format_message()
        # without one, the help has been printed
        return _refused(message, f"{_helped()} --help lists what there is") if message else 2
    if isinstance(error, MemoryError):
        return _refused("not enough memory", "lower engine.num_gpu_blocks_override or engine.max_num_seqs")
    if isinstance(error, OSError):
        what = error.strerror or str(error)
        where = f"{error.filename}: " if error.filename else ""
        return _refused(f"{where}the system refuses: {what}", "is there room, and may you write there?")
    for text in traceback.format_exc().splitlines():
        note(text)
    return 2


def _helped() -> str:
    """The command whose help is wanted: the one that was named, if there is one."""
    from detrec.cli import app

    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    return f"detrec {sys.argv[1]}" if names & set(sys.argv[1:2]) else "detrec"
