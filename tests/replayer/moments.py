"""Every op of one step of a small engine, captured."""

from typing import Any

from detrec.engines.builtin.engine import BuiltinEngine
from detrec.replayer.capture import Capture, Moment
from detrec.replayer.experiments import most_rows
from tests.engines.small import prompt, request, started

REQUESTS = [
    request("a", prompt(1, 30), max_tokens=8),
    request("b", prompt(2, 9), 1, temperature=0.8, top_p=0.9, seed=3, repetition_penalty=1.3, max_tokens=8),
    request("c", prompt(3, 21), 2, temperature=1.2, top_k=9, frequency_penalty=0.4, max_tokens=8),
    request("d", prompt(4, 12), 2, stop_token_ids=[5, 9], min_tokens=4, max_tokens=8),
]
"""Penalised and not, with banned tokens and without."""

STEP = 2
"""Two decodes beside two prompts, the second of which is cut before it samples."""

ENGINE: dict[str, Any] = {"max_num_batched_tokens": 34, "split_kv_size": 8}


def stopped(
    step: int = STEP, *captures: Capture, start: dict[str, Any] | None = None, **engine: Any
) -> BuiltinEngine:
    """An engine that has run `step` and no more, with room for experiments."""
    running = started(REQUESTS, start={"instruments": captures, **(start or {})}, **{**ENGINE, **engine})
    for done, _ in running.run(running.own_scheduler()):
        if done.index == step:
            running.reserve(most_rows(done.rows), most_rows(done.rows))
            return running
    raise AssertionError(f"there is no step {step}")


def moments(step: int = STEP, start: dict[str, Any] | None = None, **engine: Any) -> dict[str, Moment]:
    """By name, every op of the step, in the order in which they ran."""
    first, rest = Capture("embedding", step), Capture("sampled", step, "embedding")
    stopped(step, first, rest, start=start, **engine)
    return first.moments | rest.moments
