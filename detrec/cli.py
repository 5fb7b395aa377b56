"""The `detrec` command: parse, call, print. No logic lives here.

stdout carries the result and nothing else; progress, notes and errors go to stderr. Exit codes
are `diff`'s: 0 the runs are bit-identical, 1 they diverged, 2 detrec could not tell.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from detrec import __version__, interrupt
from detrec.console import note, say, show
from detrec.errors import DetrecError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Record and replay deterministic LLM inference; find where the first bit changed.",
)

Trace = Annotated[str, typer.Argument(help="A trace: a path or an fsspec URL.", metavar="RUN")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")
]
FaultName = Annotated[
    str, typer.Option("--fault", metavar="NAME", help="Inject a known cause: NAME[:key=value,...].")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a trace that is already there.")]
By = Annotated[
    str, typer.Option(help="What decides: every bit, or sketches within tolerance.", metavar="bits|sketch")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def _version(asked: bool) -> None:
    if asked:
        say(f"detrec {__version__}")
        raise typer.Exit


@app.callback()
def detrec(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Record and replay deterministic LLM inference; find where the first bit changed."""


@app.command()
def record(
    serve: Annotated[
        Path, typer.Argument(help="What to run: model, engine and requests.", metavar="SERVE.YAML")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Where the trace goes.", metavar="RUN")
    ] = None,
    set_: Sets = None,
    level: Annotated[
        str | None, typer.Option(help="What to keep: layer outputs, or every op.", metavar="layer|op")
    ] = None,
    fault: FaultName = "",
    overwrite: Overwrite = False,
) -> None:
    """Run the engine deterministically and keep a trace."""
    from detrec import summary
    from detrec.config import load_config
    from detrec.progress import progress_bar
    from detrec.recorder.record import record as run

    overrides = list(set_ or []) + ([f"record.level={level}"] if level else [])
    config = load_config(serve, overrides)
    with progress_bar() as progress:
        recording = run(
            config,
            config.record.output if output is None else output,
            overwrite=overwrite,
            fault=fault,
            notify=note,
            progress=progress,
        )
    say(summary.recorded(recording))


@app.command()
def replay(
    run: Trace,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Keep the replay's trace here.", metavar="RUN")
    ] = None,
    set_: Sets = None,
    mode: Annotated[
        str,
        typer.Option(
            help="Force schedule and tokens, tokens alone, or nothing.", metavar="schedule|tokens|free"
        ),
    ] = "schedule",
    fault: FaultName = "",
    diagnose: Annotated[
        bool, typer.Option("--diagnose/--no-diagnose", help="Where the runs diverge, find out why.")
    ] = True,
    keep_tensors: Annotated[
        str | None,
        typer.Option(help="Keep the tensors of the first divergence in this folder.", metavar="DIR"),
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, help="Replay K times, to catch a rare race.", metavar="K")
    ] = None,
    overwrite: Overwrite = False,
    by: By = "bits",
    as_json: Json = False,
) -> None:
    """Run a trace again, compare, and say why it diverged: exit 0 identical, 1 diverged."""
    from detrec import report
    from detrec.progress import progress_bar
    from detrec.replayer.hunt import hunt
    from detrec.replayer.replay import replay as rerun

    report.check_by(by)
    with progress_bar() as progress:
        found = hunt(
            lambda number, shown: rerun(
                run,
                output if shown else None,
                overrides=set_ or [],
                mode=mode,
                fault=fault,
                diagnose=diagnose and shown,
                keep_tensors=keep_tensors if shown else None,
                by_sketch=by == "sketch",
                # an earlier replay that did not diverge gives way to this one
                overwrite=overwrite or number > 1,
                notify=note,
                progress=progress,
            ),
            repeat or 1,
        )
    result, hunted = found.shown, None if repeat is None else found
    if as_json:
        show(
            report.to_json(
                result.comparison,
                trace=run,
                replayed=result.path,
                seconds=found.seconds,
                diagnosis=result.diagnosis,
                hunt=hunted,
                tolerance=result.tolerance,
                by=by,
            )
        )
    else:
        say(
            report.to_text(
                result.comparison,
                seconds=found.seconds,
                diagnosis=result.diagnosis,
                hunt=hunted,
                tolerance=result.tolerance,
                by=by,
            )
        )
    raise typer.Exit(report.exit_code(result.comparison, result.tolerance if by == "sketch" else None))


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="A trace: a path or an fsspec URL.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The trace to hold against it.", metavar="B")],
    by: By = "bits",
    as_json: Json = False,
) -> None:
    """Compare two traces, and say what they tell of the cause: exit 0 identical, 1 diverged."""
    from detrec import report
    from detrec.progress import progress_bar
    from detrec.recorder.reader import TraceReader
    from detrec.replayer.compare import compare
    from detrec.replayer.explain import explain_traces
    from detrec.replayer.tolerance import compare_sketches

    report.check_by(by)
    traces = TraceReader(a), TraceReader(b)
    with progress_bar() as progress:
        compared = compare(*traces, progress=progress)
    cause = explain_traces(*traces, compared)
    sketched = by == "sketch" or all(trace.has_sketches for trace in traces)
    tolerance = compare_sketches(*traces) if sketched else None
    told: dict[str, Any] = {"seconds": compared.seconds, "diagnosis": cause, "tolerance": tolerance, "by": by}
    if as_json:
        show(report.to_json(compared, trace=a, replayed=b, **told))
    else:
        say(report.to_text(compared, **told))
    raise typer.Exit(report.exit_code(compared, tolerance if by == "sketch" else None))


@app.command()
def info(run: Trace, as_json: Json = False) -> None:
    """Say what a trace holds."""
    from detrec import summary
    from detrec.recorder.reader import TraceReader

    facts = summary.facts(TraceReader(run))
    if as_json:
        show(facts)
    else:
        say(summary.to_text(facts))


@app.command()
def verify(run: Trace) -> None:
    """Check every byte of a trace against its digests: exit 2 when any is wrong."""
    from detrec import summary
    from detrec.recorder.reader import TraceReader
    from detrec.recorder.verify import verify as check
    from detrec.replayer.agreement import ranks_disagree

    found = check(run)
    say(summary.verified(run, found, ranks_disagree(TraceReader(run))))


@app.command()
def faults(as_json: Json = False) -> None:
    """List the causes that --fault can inject."""
    from detrec import catalogue

    rows = catalogue.faults()
    if as_json:
        show(rows)
    else:
        say(catalogue.to_text(rows))


@app.command()
def doctor(
    run: Annotated[
        str | None, typer.Argument(help="A trace: can it be replayed here bit for bit?", metavar="[RUN]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine can run, whether its kernels are batch-invariant, and if it can replay RUN."""
    from detrec import checkup

    facts = checkup.examine(run)
    if as_json:
        show(facts)
    else:
        say(checkup.to_text(facts))
    replayable = "replay" not in facts or facts["replay"]["verdict"] == "yes"
    raise typer.Exit(0 if facts["healthy"] and replayable else 2)


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
