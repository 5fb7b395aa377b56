"""Arguments and options that more than one command has, or that would hide what a command does."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

MODES = ("schedule", "tokens", "free")


def _filled(value: str | None) -> str | None:
    """What is given is not empty: an unset variable of a script must not pass for an option left out."""
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty; leave the option out, or give it a value")
    return value


def _one_of(*values: str) -> Callable[[], list[str]]:
    """What a shell completes to."""
    return lambda: list(values)


def _faults() -> list[str]:
    from detrec.engines.faults import FAULTS

    return list(FAULTS)


def _fault(told: str) -> Any:
    """--fault, with what its help says."""
    return typer.Option("--fault", metavar="NAME", callback=_filled, autocompletion=_faults, help=told)


Trace = Annotated[str, typer.Argument(help="A trace: a path or an fsspec URL.", metavar="RUN")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of serve.yaml; repeatable."),
]
MadeBySets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="OTHER was replayed with this --set; repeatable."),
]
FaultName = Annotated[
    str | None,
    _fault("Inject a known cause: NAME or NAME:KEY=VALUE,... as detrec faults lists them."),
]
MadeByFault = Annotated[str | None, _fault("OTHER was replayed with this --fault.")]
Mode = Annotated[
    str,
    typer.Option(
        help="schedule forces steps and tokens, tokens forces tokens alone, free nothing.",
        metavar="MODE",
        callback=_filled,
        autocompletion=_one_of(*MODES),
    ),
]
MadeByMode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        help="OTHER was replayed in this --mode.",
        metavar="MODE",
        callback=_filled,
        autocompletion=_one_of(*MODES),
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a trace that is already there.")]
OverwriteKept = Annotated[
    bool, typer.Option("--overwrite", help="Replace a trace that is already where -o says.")
]
Tui = Annotated[
    bool | None,
    typer.Option("--tui/--no-tui", help="Open the explorer; by default if it diverged, on a terminal."),
]
Until = Annotated[
    int | None,
    typer.Option(min=0, help="Replay up to the end of this step, and compare so far.", metavar="STEP"),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="PLACE",
        callback=_filled,
        help="Where the explorer opens: 'greedy:90 1.qkv', 'step 12'.",
    ),
]
By = Annotated[
    str,
    typer.Option(
        help="What decides: every bit, or sketches within tolerance.",
        metavar="bits|sketch",
        callback=_filled,
        autocompletion=_one_of("bits", "sketch"),
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Other = Annotated[str | None, typer.Argument(help="The trace to hold against it.", metavar="OTHER")]
A = Annotated[str, typer.Argument(help="A trace: a path or an fsspec URL.", metavar="A")]
B = Annotated[str, typer.Argument(help="The trace to hold against it.", metavar="B")]
Tensors = Annotated[
    str | None,
    typer.Option(help="The folder that replay --keep-tensors filled.", metavar="DIR", callback=_filled),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="RUN", help="Where the trace goes; else record.output, which is run.zarr."
    ),
]
Level = Annotated[
    str | None,
    typer.Option(
        help="What to keep: layer outputs, or every op.",
        metavar="layer|op",
        callback=_filled,
        autocompletion=_one_of("layer", "op"),
    ),
]
Kept = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", help="Keep the replay's trace here; else it is thrown away.", metavar="RUN"
    ),
]
Diagnose = Annotated[
    bool, typer.Option("--diagnose/--no-diagnose", help="Where the runs diverge, find out why.")
]
KeepTensors = Annotated[
    str | None,
    typer.Option(
        help="Keep the tensors of the first divergence in this folder.", metavar="DIR", callback=_filled
    ),
]
Repeat = Annotated[int | None, typer.Option(min=1, help="Replay K times, to catch a rare race.", metavar="K")]
File = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        callback=_filled,
        help="Where to; .html, .md, .svg or .json says what. Else report.html.",
    ),
]
About = Annotated[
    str | None,
    typer.Option(
        "--at", help="What to tell of: 'greedy:90 1.qkv', 'step 12'.", metavar="PLACE", callback=_filled
    ),
]
Cause = Annotated[
    str | None,
    typer.Option(help="A file with what replay --json printed: its cause.", metavar="FILE", callback=_filled),
]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is already there.")]
Serve = Annotated[Path, typer.Argument(help="What to run: model, engine and requests.", metavar="SERVE.YAML")]
Replayable = Annotated[
    str | None,
    typer.Argument(
        help="A trace: can it be replayed here bit for bit? A serve.yaml: is it deterministic?", metavar="RUN"
    ),
]
