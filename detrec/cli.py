"""The `detrec` command: parse, call, print. No logic lives here.

stdout carries the result and nothing else; progress, notes and errors go to stderr. Exit codes
are `diff`'s: 0 the runs are bit-identical, 1 they diverged, 2 detrec could not tell.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detrec import __version__
from detrec import options as opt
from detrec.console import note, say, show
from detrec.examples import epilog

if TYPE_CHECKING:
    from detrec.replayer.comparison import Comparison

PROBLEMS_SHOWN = 20

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Record and replay deterministic LLM inference; find where the first bit changed.",
)


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


@app.command(epilog=epilog("record"))
def record(
    serve: opt.Serve,
    output: opt.Output = None,
    set_: opt.Sets = None,
    level: opt.Level = None,
    fault: opt.FaultName = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Run the engine deterministically and keep a trace."""
    from detrec import summary
    from detrec.config import load_config
    from detrec.progress import progress_bar
    from detrec.recorder.record import record as run

    overrides = list(set_ or []) + ([] if level is None else [f"record.level={level}"])
    config = load_config(serve, overrides)
    with progress_bar() as progress:
        recording = run(
            config,
            config.record.output if output is None else output,
            overwrite=overwrite,
            fault=fault or "",
            notify=note,
            progress=progress,
        )
    say(summary.recorded(recording))


@app.command(epilog=epilog("replay"))
def replay(
    run: opt.Trace,
    output: opt.Kept = None,
    set_: opt.Sets = None,
    mode: opt.Mode = "schedule",
    fault: opt.FaultName = None,
    diagnose: opt.Diagnose = True,
    keep_tensors: opt.KeepTensors = None,
    repeat: opt.Repeat = None,
    overwrite: opt.OverwriteKept = False,
    by: opt.By = "bits",
    until: opt.Until = None,
    as_json: opt.Json = False,
    tui: opt.Tui = None,
    at: opt.At = None,
) -> None:
    """Run a trace again, compare, and say why it diverged: exit 0 identical, 1 diverged."""
    from detrec import opening, report
    from detrec.replayer.replay import replay as rerun
    from detrec.replays import replays

    report.check_by(by, repeat)
    opening.check_kept(output, overwrite=overwrite)
    explorable = opening.opens(tui, as_json=as_json, at=at)
    again = partial(
        rerun,
        run,
        overrides=set_ or [],
        mode=mode,
        fault=fault or "",
        by_sketch=by == "sketch",
        until=until,
        notify=note,
    )
    with opening.room(explorable, output, keep_tensors, diagnose=diagnose) as room:
        found = replays(again, room, repeat or 1, diagnose=diagnose, overwrite=overwrite)
        result, hunted = found.shown, None if repeat is None else found
        told: dict[str, Any] = {"diagnosis": result.diagnosis, "tolerance": result.tolerance, "by": by}
        told |= {"seconds": found.seconds, "hunt": hunted, "until": until}
        _tell(result.comparison, run, output or "", told, as_json=as_json)
        verdict = report.verdict(result.comparison, result.tolerance, by)
        if explorable and (tui or verdict == "diverged"):
            from detrec.story.write import write
            from detrec.tui.explore import explore_replay

            made = opening.made(mode, set_, fault, until)
            explore_replay(run, result, write, made=made, tensors=room.tensors, at=at or "")
    raise typer.Exit(report.EXIT_CODES[verdict])


@app.command(epilog=epilog("diff"))
def diff(
    a: opt.A,
    b: opt.B,
    by: opt.By = "bits",
    as_json: opt.Json = False,
) -> None:
    """Compare two traces, and say what they tell of the cause: exit 0 identical, 1 diverged."""
    from detrec import report
    from detrec.progress import progress_bar
    from detrec.recorder.reader import TraceReader
    from detrec.replayer.compare import compare
    from detrec.replayer.explain import explain_traces
    from detrec.replayer.tolerance import compare_sketches, needs_cause

    report.check_by(by)
    traces = TraceReader(a), TraceReader(b)
    with progress_bar() as progress:
        compared = compare(*traces, progress=progress)
    sketched = by == "sketch" or all(trace.has_sketches for trace in traces)
    tolerance = compare_sketches(*traces) if sketched else None
    wanted = needs_cause(tolerance, by_sketch=by == "sketch")
    cause = explain_traces(*traces, compared) if wanted else None
    told = {"seconds": compared.seconds, "diagnosis": cause, "tolerance": tolerance, "by": by}
    _tell(compared, a, b, told, as_json=as_json)
    raise typer.Exit(report.exit_code(compared, tolerance, by))


def _tell(compared: "Comparison", run: str, other: str, told: dict[str, Any], *, as_json: bool) -> None:
    from detrec import report

    if as_json:
        show(report.to_json(compared, trace=run, replayed=other, **told))
    else:
        say(report.to_text(compared, **told))


@app.command(epilog=epilog("explore"))
def explore(
    run: opt.Trace,
    other: opt.Other = None,
    at: opt.At = None,
    set_: opt.MadeBySets = None,
    mode: opt.MadeByMode = None,
    fault: opt.MadeByFault = None,
    tensors: opt.Tensors = None,
) -> None:
    """Look into a trace, or into what differs between two, on a terminal.

    --set, --mode and --fault say how OTHER was replayed, so that it can be run again.
    """
    from detrec import opening
    from detrec.story.write import write
    from detrec.tui.explore import explore as look

    made = opening.made_other(other, mode, set_, fault)
    look(run, other, write, made=made, tensors=tensors, at=at or "")


@app.command(epilog=epilog("report"))
def report(
    run: opt.Trace,
    other: opt.Other = None,
    output: opt.File = None,
    at: opt.About = None,
    tensors: opt.Tensors = None,
    cause: opt.Cause = None,
    overwrite: opt.OverwriteFile = False,
    as_json: opt.Json = False,
) -> None:
    """Tell what happened in a file for a bug report or CI: exit 0 identical, 1 diverged."""
    from detrec import opening
    from detrec.progress import progress_bar
    from detrec.story.tell import exit_code, tell

    file = opening.report_file(output, as_json=as_json, overwrite=overwrite)
    with progress_bar() as progress:
        found = tell(
            run,
            other,
            file,
            at=at or "",
            tensors=tensors,
            cause=cause,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        show(found)
    else:
        say(f"{file}: {found['headline']}")
    raise typer.Exit(exit_code(found))


@app.command(epilog=epilog("info"))
def info(run: opt.Trace, as_json: opt.Json = False) -> None:
    """Say what a trace holds."""
    from detrec import summary
    from detrec.recorder.reader import TraceReader

    facts = summary.facts(TraceReader(run))
    if as_json:
        show(facts)
    else:
        say(summary.to_text(facts))


@app.command(epilog=epilog("verify"))
def verify(run: opt.Trace) -> None:
    """Check every byte of a trace against its digests: exit 2 when any is wrong."""
    from detrec import summary
    from detrec.recorder.reader import TraceReader
    from detrec.recorder.verify import examine, require_sound
    from detrec.replayer.agreement import ranks_disagree

    found = examine(run)
    for problem in found.problems[1:PROBLEMS_SHOWN]:
        note(problem)
    require_sound(found)
    say(summary.verified(run, found, ranks_disagree(TraceReader(run))))


@app.command(epilog=epilog("faults"))
def faults(as_json: opt.Json = False) -> None:
    """List the causes that --fault can inject."""
    from detrec import catalogue

    rows = catalogue.faults()
    if as_json:
        show(rows)
    else:
        say(catalogue.to_text(rows))


@app.command(epilog=epilog("doctor"))
def doctor(
    run: opt.Replayable = None,
    as_json: opt.Json = False,
) -> None:
    """Say what this machine can run, whether its kernels are batch-invariant, and if it can replay RUN."""
    from detrec import checkup

    facts = checkup.examine(run)
    if as_json:
        show(facts)
    else:
        say(checkup.to_text(facts))
    able = all(facts[what]["verdict"] == "yes" for what in ("record", "replay") if what in facts)
    raise typer.Exit(0 if facts["healthy"] and able else 2)
