"""A part of a map that was read, and what of all of it is seen in one line."""

import numpy as np
import pytest

from detrec.replayer.survey.cell import State
from detrec.tui.field import Shown


def shown(states):
    states = np.array(states, np.uint8)
    return Shown("key", 0, states.shape[1], 1, states)


def test_the_overview_has_shares_of_lines_and_where_some_was_born():
    equal, inherited, born = State.EQUAL, State.INHERITED, State.BORN
    shares, births = shown([[equal, equal, born], [equal, inherited, inherited]]).overview(6)
    assert shares.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert births.tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("width", [1, 5])
def test_of_nothing_there_is_an_empty_overview(width):
    shares, births = shown(np.zeros((0, 3))).overview(width)
    assert shares.tolist() == [0] * width
    assert not births.any()
