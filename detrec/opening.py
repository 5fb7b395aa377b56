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


def check_kept(output: str | None, *, overwrite: bool) -> None:
    """Raise ConfigError where there is nothing that a replay could overwrite."""
    if overwrite and output is None:
        raise ConfigError("--overwrite: nothing is kept without -o", hint="name a trace with -o")


def report_file(output: str | None, *, as_json: bool, overwrite: bool) -> str | None:
    """Where a report goes, None with `as_json`; ConfigError where both are asked for."""
    if as_json and (output is not None or overwrite):
        option = "--overwrite" if output is None else f"-o {output}"
        raise ConfigError(
            f"{option}: --json prints the report and writes no file",
            hint="leave out --json, and name a file that ends in .json",
        )
    return None if as_json else output or "report.html"


def opens(tui: bool | None, *, as_json: bool, at: str | None = None) -> bool:
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


def made(
    mode: str | None, overrides: list[str] | None, fault: str | None, until: int | None = None
) -> "Replayed":
    """How the second run was made; what is left out is as `Replayed` has it."""
    from detrec.replayer.survey.command import Replayed

    return Replayed(mode or Replayed().mode, tuple(overrides or ()), fault or "", until)


def made_other(
    other: str | None, mode: str | None, overrides: list[str] | None, fault: str | None
) -> "Replayed":
    """The same of a trace that is there already; ConfigError where it is not, or could not be made so."""
    from detrec.config import apply_overrides
    from detrec.engines.faults import arm
    from detrec.replayer.replay import check_mode

    given = {"--set": overrides, "--mode": mode, "--fault": fault}
    first = next((option for option, value in given.items() if value), None)
    if first is not None and other is None:
        raise ConfigError(
            f"{first}: says how OTHER was replayed, and no OTHER is named",
            hint="name it, or replay RUN with it: detrec replay opens the explorer where runs diverge",
        )
    if mode is not None:
        check_mode(mode)
    apply_overrides({}, overrides or ())
    if fault is not None:
        arm(fault, None, lambda text: None)
    return made(mode, overrides, fault)
