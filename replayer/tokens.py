"""Whether two runs drew the same tokens, and where they first did not."""

from dataclasses import dataclass

import numpy as np

from detrec.replayer.align import Alignment
from detrec.replayer.trace import Samples


@dataclass(frozen=True, slots=True)
class TokenFlip:
    """Another token was drawn from the row at `position`; `margin` is the recorded top-2 margin in nats."""

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
