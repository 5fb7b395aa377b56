"""What a trace holds, for `detrec record` and `detrec info`."""

from dataclasses import asdict
from typing import Any

from detrec.printable import line, printable
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import Recording
from detrec.recorder.verify import Verification
from detrec.replayer.agreement import Disagreement, ranks_disagree
from detrec.report_ranks import disagree

TEXT_WIDTH = 72


def recorded(recording: Recording) -> str:
    """One line about the run, then one a request with the text it generated."""
    tokens = sum(map(len, recording.outputs.values()))
    lines = [
        f"recorded {line(recording.path)}: {recording.steps} steps, "
        f"{recording.rows} rows x {recording.ops} ops, {tokens} tokens in {recording.seconds:.2f} s"
    ]
    names = [printable(request.id) for request in recording.requests]
    width = max(map(len, names))
    lines += [
        f"  {name:{width}}  {_clip(recording.texts[request.id])}"
        for name, request in zip(names, recording.requests, strict=True)
    ]
    return "\n".join(lines)


def _clip(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= TEXT_WIDTH else shown[: TEXT_WIDTH - 3] + "..."


def verified(run: str, found: Verification, disagreement: Disagreement | None) -> str:
    """One line: what was checked, and up to where; and one on ranks that hold other things."""
    until = (
        "complete" if found.status == "complete" else f"{found.status}, good up to its last committed step"
    )
    run = line(run)
    told = (
        f"{run}: {found.files} files hold what was written: {until}; {found.steps} steps, {found.rows} rows"
    )
    return told if disagreement is None else f"{told}\n{run}: {disagree(disagreement)}"


def facts(trace: TraceReader) -> dict[str, Any]:
    """A trace's identity, size, configuration and requests, JSON-ready.

    Of several ranks, `ranks_disagree` is the first cell that they should have alike and have not, or null.
    """
    taken = trace.taken_tokens()
    found = ranks_disagree(trace)
    among = {"ranks_disagree": None if found is None else asdict(found)} if trace.ranks > 1 else {}
    return {
        "trace": str(trace.path),
        "uuid": trace.uuid,
        "status": trace.status,
        "steps": trace.n_steps,
        "rows": trace.n_rows,
        "samples": trace.n_samples,
        "ops": len(trace.ops),
        "ranks": trace.ranks,
        **among,
        "manifest": trace.manifest,
        "requests": [
            {
                "id": request.id,
                "arrival": request.arrival,
                "prompt_tokens": len(request.prompt),
                "output_tokens": len(taken.get(request.id, [])),
                "seed": request.sampling.seed,
                "temperature": request.sampling.temperature,
            }
            for request in trace.requests
        ],
        "events": _events(trace),
    }


def _ranks(found: dict[str, Any] | None) -> list[str]:
    return [] if found is None else [f"  ranks     {disagree(Disagreement(**found))}"]


def _events(trace: TraceReader) -> dict[str, int]:
    counts = {"preempted": 0, "hit": 0}
    for step in trace.steps():
        for event in step.events:
            counts[str(event.kind)] = counts.get(str(event.kind), 0) + 1
    return counts


def to_text(data: dict[str, Any]) -> str:
    """The same facts for a reader."""
    config = data["manifest"]["config"]
    environment = data["manifest"]["environment"]
    digest = data["manifest"]["engine"].get("model_digest", "no digest")
    settings = ", ".join(f"{key} {value}" for key, value in config["engine"].items() if value is not None)
    lines = [
        f"{line(data['trace'])}: {data['status']}, {data['steps']} steps, "
        f"{data['rows']} rows x {data['ops']} ops, {data['samples']} samples, {data['ranks']} rank(s)",
        f"  model     {printable(config['model'])} ({digest})",
        f"  engine    {printable(settings)}",
        f"  recorded  level {config['record']['level']}; "
        + ", ".join(f"{k} {v}" for k, v in environment.items() if v),
        f"  events    {data['events']['preempted']} preempted, {data['events']['hit']} prefix-cache hits",
        *_ranks(data.get("ranks_disagree")),
        "  request   arrival  prompt  output  temperature  seed",
    ]
    lines += [
        f"  {printable(r['id']):9} {r['arrival']:7}  {r['prompt_tokens']:6}  "
        f"{r['output_tokens']:6}  {r['temperature']:11g}  {r['seed']}"
        for r in data["requests"]
    ]
    return "\n".join(lines)
