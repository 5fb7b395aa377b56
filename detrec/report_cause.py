"""A diagnosis in words and as JSON: the cause, then every measurement it rests on."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from detrec.replayer.diagnosis import Diagnosis

# what the report of a comparison says anyway
_SAID = ("kernel", "manifest", "schedule")


def to_json(diagnosis: Diagnosis, *, of_bits: bool = False) -> dict[str, Any]:
    """`class` is one of diagnosis.CLASSES, `rule` what gave it.

    `of_bits`: by sketch the runs part elsewhere; `of`: "bits" says that this is of bits that differ before.
    """
    of = {"of": "bits"} if of_bits else {}
    return {
        "class": diagnosis.cause,
        "summary": diagnosis.summary,
        "rule": diagnosis.rule,
        "evidence": [asdict(evidence) for evidence in diagnosis.evidence],
    } | of


def lines(diagnosis: Diagnosis, *, of_bits: bool = False) -> Iterator[tuple[str, str]]:
    """Labels and texts; evidence that the comparison's own lines give is left to them."""
    of = "of the bits above, not of what is beyond tolerance: " if of_bits else ""
    yield "cause", f"{of}{diagnosis.cause}: {diagnosis.summary}"
    for evidence in diagnosis.evidence:
        if evidence.kind not in _SAID:
            yield evidence.kind, evidence.text
