"""One trace replayed again and again: a rare race shows in some replays and not in others."""

from collections.abc import Callable
from dataclasses import dataclass

from detrec.replayer.divergence import Divergence
from detrec.replayer.replay import Replay


@dataclass(frozen=True, slots=True)
class Hunt:
    """`times` replays. `firsts`: by number, from 1, where each that diverged first did; None where only
    tokens show it. `shown` is the first that diverged, else the last. `seconds` is all of their time.
    """

    times: int
    firsts: dict[int, Divergence | None]
    shown: Replay
    seconds: float


def hunt(again: Callable[[int, bool], Replay], times: int) -> Hunt:
    """Call `again` so many times, with the number of the replay and whether none before it diverged."""
    if times < 1:
        raise ValueError(f"hunt: expected at least one replay, got {times}")
    firsts: dict[int, Divergence | None] = {}
    seconds = 0.0
    for number in range(1, times + 1):
        earlier = bool(firsts)
        found = again(number, not earlier)
        seconds += found.seconds
        if found.comparison.verdict == "diverged":
            firsts[number] = found.comparison.first
        if not earlier:
            shown = found
    return Hunt(times, firsts, shown, seconds)
