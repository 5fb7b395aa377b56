"""Arguments and options that more than one command has, or that would hide what a command does."""

from pathlib import Path
from typing import Annotated

import typer

Trace = Annotated[str, typer.Argument(help="A trace: a path or an fsspec URL.", metavar="RUN")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")
]
FaultName = Annotated[
    str, typer.Option("--fault", metavar="NAME", help="Inject a known cause: NAME[:key=value,...].")
]
Mode = Annotated[
    str,
    typer.Option(help="Force schedule and tokens, tokens alone, or nothing.", metavar="schedule|tokens|free"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a trace that is already there.")]
Tui = Annotated[
    bool | None,
    typer.Option("--tui/--no-tui", help="Open the explorer; by default if it diverged, on a terminal."),
]
Until = Annotated[
    int | None,
    typer.Option(min=0, help="Replay up to the end of this step, and compare so far.", metavar="STEP"),
]
At = Annotated[str, typer.Option("--at", metavar="PLACE", help="Where the explorer opens: 'r3:45 14.attn'.")]
By = Annotated[
    str, typer.Option(help="What decides: every bit, or sketches within tolerance.", metavar="bits|sketch")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Other = Annotated[str | None, typer.Argument(help="The trace to hold against it.", metavar="[OTHER]")]
A = Annotated[str, typer.Argument(help="A trace: a path or an fsspec URL.", metavar="A")]
B = Annotated[str, typer.Argument(help="The trace to hold against it.", metavar="B")]
Tensors = Annotated[
    str | None, typer.Option(help="The folder that replay --keep-tensors filled.", metavar="DIR")
]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Where the trace goes.", metavar="RUN")]
Level = Annotated[
    str | None, typer.Option(help="What to keep: layer outputs, or every op.", metavar="layer|op")
]
Kept = Annotated[
    str | None, typer.Option("--output", "-o", help="Keep the replay's trace here.", metavar="RUN")
]
Diagnose = Annotated[
    bool, typer.Option("--diagnose/--no-diagnose", help="Where the runs diverge, find out why.")
]
KeepTensors = Annotated[
    str | None,
    typer.Option(help="Keep the tensors of the first divergence in this folder.", metavar="DIR"),
]
Repeat = Annotated[int | None, typer.Option(min=1, help="Replay K times, to catch a rare race.", metavar="K")]
File = Annotated[
    str,
    typer.Option("--output", "-o", help="Where to; .html, .md, .svg or .json says what.", metavar="FILE"),
]
About = Annotated[str, typer.Option(help="What to tell of: 'r3:45 14.attn', 'step 12'.", metavar="PLACE")]
Cause = Annotated[
    str | None, typer.Option(help="A file with what replay --json printed: its cause.", metavar="FILE")
]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is already there.")]
Serve = Annotated[Path, typer.Argument(help="What to run: model, engine and requests.", metavar="SERVE.YAML")]
Replayable = Annotated[
    str | None,
    typer.Argument(
        help="A trace: can it be replayed here bit for bit? A serve.yaml: is it deterministic?",
        metavar="[RUN]",
    ),
]
