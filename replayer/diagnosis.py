"""A cause with its evidence: what a diagnosis says."""

from dataclasses import dataclass, field
from typing import Any

CLASSES = (
    "schedule", "input", "kernel-choice", "reduction-order", "race", "collective", "cache", "rng",
    "environment", "numerics", "corruption", "unknown",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement in a sentence; `facts` are its numbers, JSON-ready."""

    kind: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`cause` is one of CLASSES, `rule` what gave it; every claim of `summary` is in `evidence`."""

    cause: str
    rule: str
    summary: str
    evidence: tuple[Evidence, ...]
