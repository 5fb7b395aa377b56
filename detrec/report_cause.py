"""A diagnosis in words and as JSON: the cause, then every measurement it rests on."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from detrec.replayer.diagnosis import Diagnosis

# what the report of a comparison says anyway
_SAID = ("kernel", "manifest", "schedule")


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """`class` is one of diagnosis.CLASSES, `rule` what gave it."""
    return {
        "class": diagnosis.cause,
        "summary": diagnosis.summary,
        "rule": diagnosis.rule,
        "evidence": [asdict(evidence) for evidence in diagnosis.evidence],
    }


def lines(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """Labels and texts; evidence that the comparison's own lines give is left to them."""
    yield "cause", f"{diagnosis.cause}: {diagnosis.summary}"
    for evidence in diagnosis.evidence:
        if evidence.kind not in _SAID:
            yield evidence.kind, evidence.text
