"""Which lines of a long list are shown, and the bar beside them."""

import pytest

from detrec.tui import scroll


@pytest.mark.parametrize(
    ("top", "cursor", "shown"),
    [
        pytest.param(10, 12, 10, id="in sight"),
        pytest.param(10, 9, 9, id="a line above"),
        pytest.param(10, 15, 11, id="a line below"),
        pytest.param(10, 60, 58, id="far away, with what comes before"),
        pytest.param(10, 99, 95, id="the last line"),
        pytest.param(10, 0, 0, id="the first line"),
    ],
)
def test_the_cursor_is_brought_in_sight(top, cursor, shown):
    assert scroll.revealed(top, cursor, 5, 100) == shown
    assert cursor in range(shown, shown + 5)


def test_a_list_that_fits_is_not_scrolled_and_has_no_bar():
    assert scroll.settled(3, 10, 4) == 0
    assert not scroll.thumb(0, 10, 10)
    assert not scroll.thumb(0, 0, 10)


@pytest.mark.parametrize("count", [11, 37, 1000, 10**6])
def test_the_bar_is_at_an_end_only_where_the_list_is(count):
    bars = [scroll.thumb(top, 10, count) for top in range(min(count - 9, 5000))]
    last = scroll.thumb(count - 10, 10, count)
    assert bars[0].start == 0
    assert last.stop == 10
    assert all(bar.start > 0 for bar in bars[1:])
    assert {len(bar) for bar in [*bars, last]} == {len(last)}


@pytest.mark.parametrize("count", [11, 37, 1000])
def test_a_bar_that_is_drawn_to_an_end_shows_that_end(count):
    assert scroll.top_of(-3, 10, count) == 0
    assert scroll.top_of(0, 10, count) == 0
    assert scroll.top_of(20, 10, count) == count - 10
