"""The command that shows again what is shown."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replayed:
    """What `detrec replay` was told when it made the second run; `until` None: the whole of it."""

    mode: str = "schedule"
    overrides: tuple[str, ...] = ()
    fault: str = ""
    until: int | None = None


def command(run: str, other: str | None = None, replayed: Replayed | None = None) -> str:
    """A line for a POSIX shell: the replay that made OTHER, else `diff` of both, else `info` of the one."""
    if replayed is not None:
        words = ["replay", run]
        words += [word for override in replayed.overrides for word in ("--set", override)]
        words += ["--mode", replayed.mode] if replayed.mode != "schedule" else []
        words += ["--fault", replayed.fault] if replayed.fault else []
        words += ["--until", str(replayed.until)] if replayed.until is not None else []
    else:
        words = ["info", run] if other is None else ["diff", run, other]
    return shlex.join(["detrec", *words])


def view(at: str, run: str, other: str | None = None, replayed: Replayed | None = None) -> str:
    """The same, and the explorer opens at a place: see `goto`."""
    if replayed is not None:
        return f"{command(run, other, replayed)} {shlex.join(['--tui', '--at', at])}"
    return shlex.join(["detrec", "explore", *([run] if other is None else [run, other]), "--at", at])
