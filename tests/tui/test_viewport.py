"""Zoom and pan, as numbers."""

import pytest

from detrec.tui.viewport import Viewport


@pytest.mark.parametrize("total", [1, 7, 60, 61, 100, 121, 5000, 1_000_003])
@pytest.mark.parametrize("width", [1, 5, 60])
def test_what_is_seen_whole_shows_every_column_once_and_in_order(total, width):
    view = Viewport().sized(total, width).fitted()
    assert view.everything
    at = [view.bin_of(column) for column in range(0, total, max(total // 997, 1))]
    assert at == sorted(at)
    assert at[0] == 0
    assert view.bin_of(total - 1) == min(view.bins, total) - 1


def test_a_screen_that_is_too_small_uses_all_its_characters():
    view = Viewport().sized(61, 60).fitted()
    assert {view.bin_of(column) for column in range(61)} == set(range(60))
    assert [view.column_at(x) for x in (0, 59)] == [0, 59]


@pytest.mark.parametrize("column", [0, 3, 500, 998, 999])
def test_zoom_keeps_the_column_it_is_around(column):
    view = Viewport().sized(1000, 80).fitted()
    for _ in range(6):
        before = view.x_of(column)
        view = view.zoomed(1, column)
        assert view.start <= column < view.stop
        # but at the ends of the line, where there is nothing to move
        if view.start > 0 and view.stop < view.total:
            assert abs(view.x_of(column) - before) <= view.wide
    assert view.wide == 3
    for _ in range(9):
        view = view.zoomed(-1, column)
    assert view.everything


def test_the_cursor_is_brought_in_sight_by_as_little_as_it_takes():
    view = Viewport(1000, 80, 0, 0)
    assert view.showing(79) == view
    assert view.showing(80).start == 1
    assert view.showing(999).stop == 1000
    assert view.showing(999).showing(10).start == 10


def test_panning_stops_at_the_ends():
    view = Viewport(1000, 80, 0, -2)
    assert view.panned(-5).start == 0
    assert view.panned(10_000).stop == 1000
    assert view.panned(7).start % 4 == 0


def test_what_was_seen_whole_is_seen_whole_on_another_screen_and_when_it_grows():
    view = Viewport().sized(100, 60).fitted()
    assert view.sized(100, 200).everything
    assert view.sized(300, 60).everything
    near = view.zoomed(2, 50)
    assert not near.sized(300, 60).everything


def test_nothing_to_show():
    view = Viewport().sized(0, 40).fitted()
    assert view.everything
    assert view.column_at(3) is None
