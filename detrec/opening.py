"""When a replay opens the explorer, and where it then leaves what the explorer reads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detrec.errors import ConfigError

if TYPE_CHECKING:
    from detrec.replayer.survey.command import Replayed


@dataclass(frozen=True, slots=True)
class Room:
    """Where a replay's trace and its tensors go; None where they need not be kept."""

    output: str | None
    tensors: str | None


def opens(tui: bool | None, *, as_json: bool, at: str = "") -> bool:
    """Does a replay that diverges open the explorer? `tui` None: on a terminal, and not with `as_json`.

    ConfigError where it was asked for and cannot be, or is told where to open, `at`, and does not.
    """
    from detrec.tui.explore import on_terminal

    terminal = on_terminal()
    if tui and as_json:
        raise ConfigError("--tui: not with --json", hint="leave one of them out")
    if tui and not terminal:
        raise ConfigError(
            "--tui: the explorer needs a terminal", hint="leave it out: the report says the same"
        )
    opened = terminal and not as_json if tui is None else tui
    if at and not opened:
        raise ConfigError(
            f"--at {at}: is where the explorer opens, which it does not here",
            hint="leave it out, or keep the replay with -o and call detrec report RUN OTHER --at PLACE",
        )
    return opened


@contextmanager
def room(wanted: bool, output: str | None, tensors: str | None, *, diagnose: bool) -> Iterator[Room]:
    """Where the user said, else in a folder that goes afterwards, if the explorer may be `wanted`."""
    if not wanted:
        yield Room(output, tensors)
        return
    with tempfile.TemporaryDirectory(prefix="detrec-") as scratch:
        kept = str(Path(scratch) / "tensors") if diagnose else None
        yield Room(output or str(Path(scratch) / "replayed.zarr"), tensors or kept)


def made(mode: str, overrides: list[str] | None, fault: str, until: int | None = None) -> "Replayed":
    """How the second run was made."""
    from detrec.replayer.survey.command import Replayed

    return Replayed(mode, tuple(overrides or ()), fault, until)
