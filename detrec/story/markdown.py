"""The story as Markdown, for an issue or a comment: what a reader needs first, and no more."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from detrec.printable import counted
from detrec.replayer.tokens import margin_of
from detrec.summary import ran

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&@$-])")
_OPS_BEFORE, _OPS_AFTER = 2, 5


def to_markdown(facts: Mapping[str, Any]) -> str:
    """Sections in the order of the HTML page."""
    return "\n".join(_lines(facts)) + "\n"


def escaped(value: Any) -> str:
    """Text that Markdown, and the HTML in it, take for nothing but text; line breaks become blanks."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {escaped(facts['headline'])}"
    yield ""
    replayed = "" if facts["replayed"] is None else f", replayed {_code(facts['replayed'])}"
    yield f"recorded {_code(facts['trace'])}{replayed}"
    yield ""
    for trace in facts["traces"]:
        if trace["status"] != "complete":
            yield f"> {escaped(trace['path'])} is **{trace['status']}**: {escaped(trace['detail'])}"
            yield ""
    if facts["problem"]:
        yield f"> not compared: {escaped(facts['problem'])}"
        yield ""
    for text in facts["ranks_say"]:
        yield f"> ranks: {escaped(text)}"
        yield ""
    yield from _counts(facts.get("counts"))
    yield from _cause(facts["cause"])
    yield from _row(facts)
    yield from _tokens(facts.get("tokens"))
    yield from _differences(facts)
    yield from _schedule(facts)
    if facts["replayed"] is None:
        yield from _requests(facts["requests"])
    yield from _ran(facts["manifest"])
    yield "### How to see it again"
    yield ""
    yield f"    {' '.join(facts['command'].split())}"
    yield ""
    yield f"detrec {facts['detrec']}"


def _counts(counts: Mapping[str, int] | None) -> Iterator[str]:
    if counts is not None:
        yield ", ".join(f"{counts[name]:,} {name}" for name in ("born", "inherited", "equal", "missing"))
        yield ""


def _cause(cause: Mapping[str, Any] | None) -> Iterator[str]:
    if cause is None:
        return
    yield f"### Cause: {escaped(cause['class'])}"
    yield ""
    yield escaped(cause["summary"])
    yield ""
    for evidence in cause["evidence"]:
        yield f"- **{escaped(evidence['kind'])}**: {escaped(evidence['text'])}"
    yield ""


def _row(facts: Mapping[str, Any]) -> Iterator[str]:
    row = facts["row"]
    if row is None:
        return
    yield f"### The row: request {escaped(row['request'])}, position {row['position']}"
    yield ""
    ops, at = row["ops"], row["at"]
    shown = ops[max(at - _OPS_BEFORE, 0) : at + _OPS_AFTER + 1]
    if len(shown) < len(ops):
        yield f"{len(shown)} of its {len(ops)} ops:"
        yield ""
    sides = ("recorded",) if facts["replayed"] is None else ("recorded", "replayed")
    yield from _table(
        ("op", "state", *sides, *(f"{side} kernel" for side in sides)),
        (
            (
                op["op"] if op["layer"] is None else f"{op['layer']}.{op['op']}",
                op["state"],
                *(op[side] or "" for side in sides),
                *(op[f"{side}_kernel"] for side in sides),
            )
            for op in shown
        ),
    )


def _tokens(tokens: Mapping[str, Any] | None) -> Iterator[str]:
    flip = None if tokens is None else tokens["first_flip"]
    if flip is None:
        return
    yield "### Tokens"
    yield ""
    yield (
        f"request {escaped(flip['request'])}, position {flip['position']}: recorded {flip['recorded']}, "
        f"replayed {flip['replayed']}, {margin_of(flip['margin'])}"
    )
    yield ""


def _differences(facts: Mapping[str, Any]) -> Iterator[str]:
    for key, title, name in (
        ("manifest_diff", "What the runs were told differently", "key"),
        ("schedule_diff", "Schedule differences", "step"),
    ):
        if facts.get(key):
            yield f"### {title}"
            yield ""
            yield from _table(
                (name, "recorded", "replayed"),
                ((each[name], _plain(each["recorded"]), _plain(each["replayed"])) for each in facts[key]),
            )


def _schedule(facts: Mapping[str, Any]) -> Iterator[str]:
    schedule = facts["schedule"]
    if schedule is None:
        return
    shown, steps = schedule["shown"], counted(schedule["pairs"], "step")
    if facts["replayed"] is None:
        yield f"### Schedule: {steps}"
    else:
        yield f"### Schedule: {steps}, {schedule['differing']:,} scheduled differently"
    yield ""
    if len(shown) < schedule["pairs"]:
        yield f"{len(shown):,} of them:"
        yield ""
    if facts["replayed"] is None:
        yield from _table(("step", "slices"), (_step(pair["recorded"]) for pair in shown))
        return
    yield from _table(
        ("recorded", "slices", "replayed", "slices", "differs"),
        ((*_step(pair["recorded"]), *_step(pair["replayed"]), ", ".join(pair["differs"])) for pair in shown),
    )


def _requests(requests: Mapping[str, Any] | None) -> Iterator[str]:
    if requests is None:
        return
    yield f"### Requests: {requests['total']:,}"
    yield ""
    keys = ("id", "arrival", "prompt_tokens", "drawn_tokens", "temperature", "seed")
    yield from _table(
        [key.replace("_", " ") for key in keys],
        ([f"{each[key]}" for key in keys] for each in requests["shown"]),
    )


def _ran(manifest: Mapping[str, Any] | None) -> Iterator[str]:
    if manifest is None:
        return
    yield "### What was recorded"
    yield ""
    for label, text in ran(dict(manifest)).items():
        yield f"- **{label}**: {escaped(text)}"
    yield ""


def _step(step: Mapping[str, Any] | None) -> tuple[str, str]:
    if step is None:
        return "", ""
    texts = [f"{part['request']}[{part['start']}:{part['stop']})" for part in step["slices"][:6]]
    more = len(step["slices"]) - len(texts) + step["more"]
    return str(step["step"]), " ".join(texts) + (f" and {more} more" if more else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(escaped(cell) for cell in row)} |"
    yield ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _code(text: str) -> str:
    return f"`{text}`" if "`" not in text and text.isprintable() else escaped(text)
