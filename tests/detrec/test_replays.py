"""What the replays of one command are told to keep, and to overwrite."""

from types import SimpleNamespace

import pytest

from detrec.opening import Room
from detrec.replays import replays

ROOM = Room("kept.zarr", "tensors")


def told(verdicts, *, diagnose=True, overwrite=False):
    """What each replay is told, one a letter of `verdicts`: d where it diverges."""
    heard = []

    def rerun(output, *, progress, **kept):
        heard.append((output, kept["keep_tensors"], kept["diagnose"], kept["overwrite"]))
        verdict = "diverged" if verdicts[len(heard) - 1] == "d" else "identical"
        return SimpleNamespace(seconds=0.5, comparison=SimpleNamespace(verdict=verdict, first=None))

    found = replays(rerun, ROOM, len(verdicts), diagnose=diagnose, overwrite=overwrite)
    assert found.times == len(verdicts)
    return heard


def test_the_first_that_diverges_is_kept_and_those_after_it_are_counted():
    kept = ("kept.zarr", "tensors", True)
    assert told("iddi") == [
        (*kept, False),
        (*kept, True),
        (None, None, False, True),
        (None, None, False, True),
    ]


@pytest.mark.parametrize("overwrite", [True, False])
def test_one_replay_overwrites_what_it_was_told_to(overwrite):
    assert told("d", overwrite=overwrite) == [("kept.zarr", "tensors", True, overwrite)]


def test_what_is_not_to_be_diagnosed_never_is():
    assert [diagnosed for _, _, diagnosed, _ in told("id", diagnose=False)] == [False, False]
