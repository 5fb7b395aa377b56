"""Opening the explorer: on one or two traces, or on a replay that has just diverged."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from detrec.errors import DetrecError
from detrec.replayer.replay import Replay
from detrec.replayer.survey.command import Replayed
from detrec.replayer.survey.survey import Survey
from detrec.tui.writing import Write


def on_terminal() -> bool:
    """Can somebody see the explorer, and press its keys?"""
    return (
        sys.stdin.isatty()
        and sys.stdout.isatty()
        and sys.stderr.isatty()
        and os.environ.get("TERM") != "dumb"
    )


def explore(
    run: str,
    other: str | None,
    write: Write,
    *,
    made: Replayed,
    tensors: str | None = None,
    at: str = "",
) -> None:
    """Explore `run`, beside `other` if there is one; DetrecError where there is no terminal.

    `made` says how `other` was replayed, if it says anything; `tensors` names the folder of --keep-tensors,
    `at` where to begin.
    """
    known = made if made != Replayed() else None
    survey = partial(Survey, run, other, replayed=known, tensors=tensors)
    _open(survey, write, [run] if other is None else [run, other], at)


def explore_replay(
    run: str, done: Replay, write: Write, *, made: Replayed, tensors: str | None, at: str = ""
) -> None:
    """Explore a replay whose trace was kept."""
    survey = partial(
        Survey,
        run,
        done.path,
        comparison=done.comparison,
        diagnosis=done.diagnosis,
        replayed=made,
        tensors=tensors,
    )
    _open(survey, write, [run, done.path], at)


def _open(survey: Callable[[], Survey], write: Write, paths: Sequence[str], at: str) -> None:
    if not on_terminal():
        raise DetrecError(
            "the explorer needs a terminal", hint="detrec diff A B, and detrec info RUN, print the same facts"
        )
    from detrec.tui.app import Explorer
    from detrec.tui.memory import give_back_early
    from detrec.tui.terminal import alone

    give_back_early()
    with alone():
        Explorer(survey, write, paths=paths, at=at).run()
