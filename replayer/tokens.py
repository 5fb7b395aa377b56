"""Whether two runs drew the same tokens, and where they first did not."""

import math
from dataclasses import dataclass

import numpy as np

from detrec.replayer.align import Alignment
from detrec.replayer.trace import Samples


@dataclass(frozen=True, slots=True)
class TokenFlip:
    """Another token was drawn from the row at `position`; `margin` is the recorded top-2 margin in nats,
    NaN where the engine keeps none.
    """

    request: str
    position: int
    recorded: int
    replayed: int
    margin: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """`equal`: every draw of either run has its equal in the other. If not, and nothing flipped, some are
    missing.
    """

    equal: bool
    first_flip: TokenFlip | None


def compare_tokens(
    recorded: Samples, replayed: Samples, aligned: Alignment, requests: tuple[str, ...]
) -> tuple[Tokens, np.ndarray]:
    """The draws of two runs, and the aligned pairs (indices into `aligned`) that differ, in recorded order.

    `requests[i]` is the id of the recorded run's request i.
    """
    ours, theirs = recorded.token[aligned.recorded], replayed.token[aligned.replayed]
    flips = np.flatnonzero(ours != theirs)
    if not len(flips):
        return Tokens(not len(aligned.only_recorded) and not len(aligned.only_replayed), None), flips
    at = flips[0]
    sample = aligned.recorded[at]
    flip = TokenFlip(
        requests[recorded.request[sample]],
        int(recorded.position[sample]),
        int(ours[at]),
        int(theirs[at]),
        float(recorded.margin[sample]),
    )
    return Tokens(False, flip), flips


def number(value: float | None, digits: int = 3) -> str:
    """A measured number in so many digits; "-" where an engine did not tell it, or there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def margin_of(nats: float | None) -> str:
    """A recorded top-2 margin in words; some engines keep none, and one possible token has none."""
    if nats is None or not math.isfinite(nats):
        return "no recorded margin"
    return f"recorded margin {number(nats)} nats"
