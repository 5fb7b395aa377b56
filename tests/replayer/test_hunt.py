"""A trace replayed so many times: what is shown, and what is counted."""

from types import SimpleNamespace

import pytest

from detrec.replayer.divergence import Divergence
from detrec.replayer.hunt import hunt

FIRST = Divergence(2, "r0", 5, 1, "attn", 0, 7, 8)


def replays(verdicts):
    """Replays that end so, and what `hunt` asked for."""
    asked = []

    def again(number, shown):
        asked.append((number, shown))
        verdict = verdicts[number - 1]
        first = FIRST if verdict == "diverged" else None
        return SimpleNamespace(
            number=number, seconds=0.5, comparison=SimpleNamespace(verdict=verdict, first=first)
        )

    return again, asked


@pytest.mark.parametrize(
    ("verdicts", "shown", "diverged"),
    [
        pytest.param("i", 1, [], id="once"),
        pytest.param("iii", 3, [], id="never diverged"),
        pytest.param("idid", 2, [2, 4], id="the first that diverged"),
        pytest.param("d", 1, [1], id="at once"),
    ],
)
def test_the_first_that_diverged_is_shown_and_all_are_counted(verdicts, shown, diverged):
    names = {"i": "identical", "d": "diverged"}
    again, asked = replays([names[verdict] for verdict in verdicts])
    found = hunt(again, len(verdicts))
    assert (found.times, found.seconds) == (len(verdicts), 0.5 * len(verdicts))
    assert found.firsts == dict.fromkeys(diverged, FIRST)
    assert found.shown.number == shown
    # once one diverged, the others are not looked into
    assert asked == [(n, not diverged or n <= diverged[0]) for n in range(1, len(verdicts) + 1)]


def test_no_replay_is_no_hunt():
    with pytest.raises(ValueError, match="at least one"):
        hunt(replays([])[0], 0)
