"""What was drawn from a row."""

from dataclasses import dataclass

import numpy as np

from detrec.recorder.reader import Samples


@dataclass(frozen=True, slots=True)
class Draw:
    """`taken` is what the request went on with; `logprob` and `margin` (first minus second) are nats."""

    token: int
    taken: int
    logprob: float
    margin: float
    seed: int
    counter: int
    finish: str


def draw_of(samples: Samples, step: int, request: int, position: int) -> Draw | None:
    """The draw of a row; `request` is the trace's own number. None where nothing was drawn from it."""
    start, stop = np.searchsorted(samples.step, (step, step + 1))
    part = slice(start, stop)
    at = np.flatnonzero((samples.request[part] == request) & (samples.position[part] == position))
    return draw_at(samples, int(start + at[0])) if len(at) else None


def draw_at(samples: Samples, index: int) -> Draw:
    """The index-th draw."""
    return Draw(
        int(samples.token[index]),
        int(samples.taken[index]),
        float(samples.logprob[index]),
        float(samples.margin[index]),
        int(samples.seed[index]),
        int(samples.counter[index]),
        str(samples.finish[index]),
    )
