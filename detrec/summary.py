"""What a trace holds, for `detrec record` and `detrec info`."""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from detrec.printable import counted, line, printable
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import Recording
from detrec.recorder.verify import Verification
from detrec.replayer.agreement import Disagreement, ranks_disagree
from detrec.report_ranks import disagree

TEXT_WIDTH = 72
WIDTH = 98
"""Of what stands behind a label."""
_JOINT = "\xa0"


def recorded(recording: Recording) -> str:
    """One line about the run, then one a request with the text it generated."""
    tokens = sum(map(len, recording.outputs.values()))
    lines = [
        f"recorded {line(recording.path)}: {counted(recording.steps, 'step')}, "
        f"{counted(recording.rows, 'row')} x {counted(recording.ops, 'op')}, {counted(tokens, 'token')} "
        f"in {recording.seconds:.2f} s"
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
    hold = "holds" if found.files == 1 else "hold"
    told = (
        f"{run}: {counted(found.files, 'file')} {hold} what was written: {until}; "
        f"{counted(found.steps, 'step')}, {counted(found.rows, 'row')}"
    )
    return told if disagreement is None else f"{told}\n{run}: {disagree(disagreement)}"


def facts(trace: TraceReader) -> dict[str, Any]:
    """A trace's identity, size, configuration and requests, JSON-ready; `reason`: why its recorder failed.

    Of several ranks, `ranks_disagree` is the first cell that they should have alike and have not, or null.
    """
    taken = trace.taken_tokens()
    found = ranks_disagree(trace)
    among = {"ranks_disagree": None if found is None else asdict(found)} if trace.ranks > 1 else {}
    return {
        "trace": str(trace.path),
        "uuid": trace.uuid,
        "status": trace.status,
        "reason": trace.reason,
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


def ran(manifest: dict[str, Any]) -> dict[str, str]:
    """What was run, by label: the model, the engine's settings, and detrec with what it ran on."""
    config, environment = manifest["config"], manifest.get("environment", {})
    digest = manifest["engine"].get("model_digest", "no digest")
    level = config.get("record", {}).get("level")
    machine = {key: value for key, value in environment.items() if not isinstance(value, dict)}
    packages = environment.get("packages", {}) | environment.get("environment", {})
    return {
        "model": printable(f"{config['model']} ({digest})"),
        "engine": _listed(config["engine"]),
        "recorded": _listed({"level": level, **machine, **packages}),
    }


def _listed(settings: dict[str, Any]) -> str:
    return printable(", ".join(f"{key} {_plain(value)}" for key, value in settings.items() if _said(value)))


def _said(value: Any) -> bool:
    return value is not None and value != ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _wrapped(label: str, text: str) -> Iterator[str]:
    """Lines of `text` behind its label; a setting and its value are not parted."""
    # no blank to textwrap, and nothing that a printable text holds
    joined = re.sub(r"(?<!,) ", _JOINT, text)
    for index, part in enumerate(textwrap.wrap(joined, WIDTH, break_on_hyphens=False)):
        yield f"  {'' if index else label:8}  {part.replace(_JOINT, ' ')}"


def to_text(data: dict[str, Any]) -> str:
    """The same facts for a reader."""
    names = [printable(request["id"]) for request in data["requests"]]
    width = max(8, *map(len, names))
    reason = data.get("reason", "")
    status = f"{data['status']} ({printable(reason)})" if reason else data["status"]
    lines = [
        f"{line(data['trace'])}: {status}, {counted(data['steps'], 'step')}, "
        f"{counted(data['rows'], 'row')} x {counted(data['ops'], 'op')}, "
        f"{counted(data['samples'], 'sample')}, {counted(data['ranks'], 'rank')}",
        *(part for label, text in ran(data["manifest"]).items() for part in _wrapped(label, text)),
        f"  events    {data['events']['preempted']} preempted, "
        f"{counted(data['events']['hit'], 'prefix-cache hit')}",
        *_ranks(data.get("ranks_disagree")),
        f"  {'request':{width}}  arrival  prompt  output  temperature  seed",
    ]
    lines += [
        f"  {name:{width}}  {r['arrival']:7}  {r['prompt_tokens']:6}  "
        f"{r['output_tokens']:6}  {r['temperature']:11g}  {r['seed']}"
        for name, r in zip(names, data["requests"], strict=True)
    ]
    return "\n".join(lines)
