"""A comparison in words and as JSON. The same facts in both; nothing is decided here but how to say it."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from detrec import report_cause, report_ranks, report_tolerance
from detrec.errors import ConfigError
from detrec.printable import counted, place_of, place_on_rank, printable
from detrec.replayer.comparison import Comparison
from detrec.replayer.diagnosis import Diagnosis
from detrec.replayer.divergence import Divergence
from detrec.replayer.hunt import Hunt
from detrec.replayer.manifest_diff import ManifestDifference
from detrec.replayer.schedule_diff import ScheduleDiff
from detrec.replayer.tokens import margin_of
from detrec.replayer.tolerance import Tolerance

_SHOWN = 3
_WIDTH = 60
_CAUSE_WIDTH = 180
_NOWHERE = "other tokens were drawn, and no fingerprint shows where"
EXIT_CODES = {"identical": 0, "close": 0, "diverged": 1, "incomplete": 2}
"""By verdict."""


def check_by(by: str, repeat: int | None = None) -> None:
    """Raise ConfigError unless `by` is "bits" or "sketch", and not the latter of a hunt's replays."""
    if by not in ("bits", "sketch"):
        raise ConfigError(
            f"--by {by}: expected bits or sketch",
            hint="bits: every bit decides; sketch: sketches within tolerance do",
        )
    if by == "sketch" and repeat is not None:
        raise ConfigError(
            "--repeat: counts replays whose bits diverge, got --by sketch", hint="leave one of them out"
        )


def verdict(comparison: Comparison, tolerance: Tolerance | None = None, by: str = "bits") -> str:
    """One of "identical", "diverged" and "incomplete"; `by` "sketch" also "close", of bits that differ."""
    if tolerance is None or by == "bits" or comparison.verdict == "identical":
        return comparison.verdict
    return {"close": "close", "apart": "diverged", "unknown": "incomplete"}[tolerance.verdict]


def exit_code(comparison: Comparison, tolerance: Tolerance | None = None, by: str = "bits") -> int:
    """0 identical, or close by sketch; 1 diverged, 2 could not tell."""
    return EXIT_CODES[verdict(comparison, tolerance, by)]


def to_json(
    comparison: Comparison,
    *,
    trace: str,
    replayed: str,
    seconds: float,
    diagnosis: Diagnosis | None = None,
    hunt: Hunt | None = None,
    tolerance: Tolerance | None = None,
    by: str = "bits",
    until: int | None = None,
) -> dict[str, Any]:
    """The object that `--json` prints: fingerprints as 16 hexadecimal digits, `cause` null where not known.

    An entry of `schedule_diff` whose `step` is null says how many more differences there are. With a `hunt`,
    `repeats` says how many of its replays diverged. Of runs on several ranks, `ranks` says where each run's
    own ranks first differ in what all of them should have, and which ops could not be compared. With a
    `tolerance` there is that; `by` "sketch" it decides the verdict. `first` is of bits even then, and so is
    the cause: where runs are first beyond tolerance elsewhere, `cause.of` says so. `until` is there if the
    replay ended with that step.
    """
    first = None if comparison.first is None else _first_json(comparison.first)
    tokens = asdict(comparison.tokens)
    flip = tokens["first_flip"]
    if flip and not math.isfinite(flip["margin"]):
        # a row with one token above -inf has no second, some engines keep none: JSON has neither number
        flip["margin"] = None
    kernels, of_bits = comparison.kernels, _of_bits(comparison, tolerance, by)
    data = {
        "verdict": verdict(comparison, tolerance, by),
        "first": first,
        "counts": asdict(comparison.counts),
        "rows": asdict(comparison.rows),
        "kernels": None if kernels is None else {"recorded": kernels[0], "replayed": kernels[1]},
        "cause": None if diagnosis is None else report_cause.to_json(diagnosis, of_bits=of_bits),
        "tokens": tokens,
        "manifest_diff": [asdict(difference) for difference in comparison.manifest_diff],
        "schedule_diff": _schedule_json(comparison.schedule_diff),
        "trace": str(trace),
        "replayed": str(replayed),
        "seconds": round(seconds, 6),
    }
    if until is not None:
        data["until"] = until
    if tolerance is not None:
        data["tolerance"] = report_tolerance.to_json(tolerance)
    if comparison.ranks > 1:
        data["ranks"] = report_ranks.to_json(comparison)
    return data if hunt is None else data | {"repeats": _hunt_json(hunt)}


def to_text(
    comparison: Comparison,
    *,
    seconds: float,
    diagnosis: Diagnosis | None = None,
    hunt: Hunt | None = None,
    tolerance: Tolerance | None = None,
    by: str = "bits",
    until: int | None = None,
) -> str:
    """The verdict on the first line, then the cause with its evidence, then the facts of the comparison.

    By sketch, what sketches tell comes first, then where bits differ and the cause of that. `until`: the
    replay ended with that step.
    """
    by_sketch = by == "sketch" and comparison.verdict != "identical"
    of_bits = _of_bits(comparison, tolerance, by)
    cause = () if diagnosis is None else report_cause.lines(diagnosis, of_bits=of_bits)
    why = [(label, _clip(text, _CAUSE_WIDTH)) for label, text in cause]
    sketches = () if tolerance is None else report_tolerance.lines(tolerance)
    bits = _bits(comparison, placed=by_sketch)
    lines = [*sketches, *bits, *why] if by_sketch else [*why, *sketches, *bits]
    lines += _details(comparison, seconds)
    lines += () if hunt is None else _hunt(hunt)
    heading = report_tolerance.verdict(tolerance) if tolerance and by_sketch else headline(comparison)
    if until is not None:
        heading += f", up to the end of step {until}"
    return "\n".join([heading, *(f"  {label:<9}  {text}" for label, text in lines)])


def headline(comparison: Comparison) -> str:
    """The verdict in a line: "diverged: first at step 2, request r0, ..."."""
    counts, first = comparison.counts, comparison.first
    if comparison.verdict == "identical":
        size = f"{counted(comparison.rows.matched, 'row')} and {counted(len(comparison.ops), 'op')}"
        size += f" on {counted(comparison.ranks, 'rank')}" if comparison.ranks > 1 else ""
        return f"identical: {counted(counts.equal, 'fingerprint')} of {size} are equal"
    if comparison.verdict == "incomplete":
        if not counts.compared:
            return "could not tell: no fingerprint is in both runs"
        equal = counted(counts.equal, "fingerprint")
        return f"could not tell: {equal} equal and none differ, but some are missing"
    if first is None:
        return f"diverged: {_NOWHERE}"
    return f"diverged: first at {place_on_rank(first, comparison.ranks)}"


def _hunt(hunt: Hunt) -> Iterator[tuple[str, str]]:
    texts = [
        f"replay {number}: {_NOWHERE if first is None else place_of(first)}"
        for number, first in hunt.firsts.items()
    ]
    yield "repeats", f"{len(texts):,} of {counted(hunt.times, 'replay')} diverged"
    yield from _labelled("", texts, len(texts))


def _hunt_json(hunt: Hunt) -> dict[str, Any]:
    """`firsts[i]`: a replay that diverged, numbered from 1, and where."""
    firsts = [
        {"replay": number, "first": None if first is None else _first_json(first)}
        for number, first in hunt.firsts.items()
    ]
    return {"times": hunt.times, "diverged": len(firsts), "firsts": firsts}


def _first_json(first: Divergence) -> dict[str, Any]:
    return asdict(first) | {"recorded": _hex(first.recorded), "replayed": _hex(first.replayed)}


def _of_bits(comparison: Comparison, tolerance: Tolerance | None, by: str) -> bool:
    """Is the cause of other cells than the verdict?"""
    return (
        by == "sketch" and tolerance is not None and report_tolerance.elsewhere(tolerance, comparison.first)
    )


def _bits(comparison: Comparison, *, placed: bool) -> Iterator[tuple[str, str]]:
    """The first fingerprints that differ; `placed`: where, which no headline says."""
    first = comparison.first
    if first is not None:
        if placed:
            yield "bits", f"first differ at {place_of(first)}"
        yield "" if placed else "bits", _sides(_hex(first.recorded), _hex(first.replayed))
    if comparison.kernels is not None:
        yield "kernel", _sides(*(name or "none" for name in comparison.kernels))


def _details(comparison: Comparison, seconds: float) -> Iterator[tuple[str, str]]:
    counts, rows = comparison.counts, comparison.rows
    changes = [
        f"{difference.key}: {_sides(_value(difference.recorded), _value(difference.replayed))}"
        for difference in sorted(comparison.manifest_diff, key=_least_telling)
    ]
    yield from _labelled("manifest", changes, len(changes))
    yield from _schedule(comparison)
    yield from report_ranks.lines(comparison)
    yield (
        "cells",
        f"{counts.compared:,} compared: {counts.equal:,} equal, {counts.born:,} born, "
        f"{counts.inherited:,} inherited; {counts.missing:,} missing",
    )
    if rows.missing:
        after = f", {rows.after_flip:,} of them after another token was drawn" if rows.after_flip else ""
        are = "is" if rows.missing == 1 else "are"
        yield "missing", f"{counted(rows.missing, 'row')} {are} in one run only{after}"
    apart = [
        f"{number:,} {text}"
        for number, text in (
            (rows.cached, "served from the prefix cache in one run"),
            (rows.superseded, "computed again after a preemption, in both runs together"),
            (rows.beyond, "after the end of the recording"),
        )
        if number
    ]
    if apart:
        yield "rows", ", ".join(apart)
    yield "tokens", _tokens(comparison)
    yield "time", f"{seconds:.2f} s"


def _least_telling(difference: ManifestDifference) -> tuple[bool, bool]:
    """Another model comes first; last comes what one run alone has, as runs of two engines have it."""
    return difference.key != "config.model", difference.recorded is None or difference.replayed is None


def _schedule(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """What differs in the schedule up to the first divergence; all of it where nothing diverged."""
    diff, first = comparison.schedule_diff, comparison.first
    until = None if first is None else first.step
    before = [d for d in diff.shown if until is None or d.step <= until]
    # what is not shown comes after what is
    total = diff.total if until is None or len(before) == len(diff.shown) else len(before)
    texts = [f"step {d.step}, {d.what}: {_sides(_clip(d.recorded), _clip(d.replayed))}" for d in before]
    yield from _labelled("schedule", texts, total)
    if diff.total > total:
        yield "", f"{counted(diff.total - total, 'schedule difference')} after the divergence"


def _tokens(comparison: Comparison) -> str:
    flip = comparison.tokens.first_flip
    if flip is not None:
        return (
            f"request {printable(flip.request)}, position {flip.position}: recorded {flip.recorded}, "
            f"replayed {flip.replayed}, {margin_of(flip.margin)}"
        )
    if not comparison.rows.matched:
        return "none was drawn at one place in both runs"
    return "equal" if comparison.tokens.equal else "equal where both runs drew one"


def _labelled(label: str, texts: Iterable[str], total: int) -> Iterator[tuple[str, str]]:
    shown = list(texts)[:_SHOWN]
    for index, text in enumerate(shown):
        yield "" if index else label, text
    if total > len(shown):
        yield "", f"and {total - len(shown):,} more"


def _schedule_json(diff: ScheduleDiff) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [asdict(difference) for difference in diff.shown]
    more = diff.total - len(entries)
    if more:
        entries.append({"step": None, "what": f"{more} more", "recorded": None, "replayed": None})
    return entries


def _hex(fingerprint: int) -> str:
    return f"{fingerprint:016x}"


def _sides(recorded: str, replayed: str) -> str:
    return f"recorded {recorded}, replayed {replayed}"


def _value(value: Any) -> str:
    return _clip(json.dumps(value))


def _clip(text: str, width: int = _WIDTH) -> str:
    plain = printable(text)
    return plain if len(plain) <= width else plain[: width - 3] + "..."
