"""One request `r` and what the model says to it: drawn tokens, never stopped by what they are."""

from typing import Any

from detrec.engines.base import EventKind
from detrec.engines.builtin.engine import BuiltinEngine
from tests.engines.small import prompt, request, started, told

PROMPT = prompt(1, 20)
LENGTH = 12
DRAWN = {"temperature": 1.0, "max_tokens": LENGTH, "ignore_eos": True}


def finished(engine: BuiltinEngine) -> tuple[list[int], str]:
    """Output and reason of the request `r`."""
    probe = told(engine, names=set())
    reasons = [sample.finish for sample in probe.samples if sample.request == "r"]
    assert not any(reasons[:-1])
    output = engine.states["r"].output
    assert (EventKind.FINISHED, "r", len(output)) in [(e.kind, e.request, e.tokens) for e in probe.finished]
    assert engine.blocks.free == engine.blocks.num_blocks
    return output, reasons[-1]


def stopped(**sampling: Any) -> tuple[list[int], str]:
    return finished(started([request("r", PROMPT, **{**DRAWN, **sampling})]))
