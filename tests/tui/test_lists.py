"""Lists: how they scroll, what they say of what is cut off, what they follow; and texts over them."""

import pytest

from detrec.replayer.survey.survey import Survey
from tests.replayer.survey.traces import written
from tests.tui.driving import LARGE, SMALL, drive


@pytest.fixture
def split(diverged):
    return diverged("split_k_by_batch")


def header_of(driver, name):
    return driver.lines[driver.pane(name).content_region.y]


def test_lines_that_go_on_are_pointed_to_and_can_be_reached(split):
    async def walk(driver):
        await driver.press("9")
        assert header_of(driver, "kernels").endswith("→")
        assert "cpu.split_k_matmul" not in driver.screen
        await driver.press(*["right"] * 9)
        assert "cpu.split_k_matmul" in driver.screen
        assert header_of(driver, "kernels").endswith("←")
        await driver.press(*["left"] * 9)
        assert header_of(driver, "kernels").endswith("→")

    drive(split.survey, walk)


def test_the_wheel_moves_the_lines_and_not_the_cursor(split):
    async def walk(driver):
        await driver.press("9")
        kernels = driver.pane("kernels")
        await driver.wheel("#kernels", 5, 5, up=False)
        assert (kernels.top, kernels.cursor) == (3, 0)
        await driver.wheel("#kernels", 5, 5, up=True)
        await driver.wheel("#kernels", 5, 5, up=True)
        assert kernels.top == 0

    drive(split.survey, walk)


def test_the_bar_can_be_taken_hold_of(split):
    async def walk(driver):
        await driver.press("9")
        kernels = driver.pane("kernels")
        bar, last = kernels.width, kernels.outer_size.height - 1
        await driver.click("#kernels", bar, last)
        assert kernels.top + kernels.content_size.height - 1 == kernels.count
        assert kernels.cursor == 0
        assert driver.app.mouse_captured is None

    drive(split.survey, walk)


def test_the_schedule_opens_at_the_step_one_stands_in_and_follows(split):
    async def walk(driver):
        await driver.press("s")
        schedule = driver.pane("schedule")
        assert schedule.cursor == 2
        await driver.press("right_square_bracket")
        assert schedule.cursor == 3
        await driver.press("home", "slash")
        await driver.write("preempted")
        found = schedule.cursor
        await driver.press("right_square_bracket")
        assert schedule.cursor == found

    drive(split.survey, walk)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_nothing_moves_for_the_line_that_asks(split, size):
    async def walk(driver):
        before = {name: driver.pane(name).region for name in ("map", "status")}
        lines = driver.lines
        await driver.press("colon")
        assert {name: driver.pane(name).region for name in before} == before
        assert driver.lines[-1] != lines[-1]
        await driver.press("escape")
        assert driver.lines == lines

    drive(split.survey, walk, size)


def test_a_place_that_does_not_fit_is_written_shorter(tmp_path):
    change = [("r1", 3, "0.attn", 1)]
    run = written(tmp_path / "run.zarr", ranks=2)
    other = written(tmp_path / "other.zarr", ranks=2, changes=change)

    async def walk(driver):
        assert driver.lines[0].endswith("request r1, position 3, layer 0, op attn, rank 1")
        await driver.resize(70, 24)
        assert driver.lines[0].endswith("r1:3, 0.attn, rank 1")
        await driver.resize(100, 24)
        assert driver.lines[0].endswith("request r1, position 3, layer 0, op attn, rank 1")

    drive(lambda: Survey(run, other), walk, (100, 24))


def test_another_theme_colours_what_is_already_there(split):
    async def walk(driver):
        await driver.press("2")
        before = styles(driver)
        driver.app.theme = "detrec-light"
        await driver.settle()
        assert not before & styles(driver)

    drive(split.survey, walk)


def styles(driver):
    """The colours of the words of the lines."""
    ops = driver.pane("ops")
    return {segment.style.color for line in range(ops.count) for segment in ops._line(line) if segment.style}


def test_the_help_is_on_one_screen_where_that_is_large(split):
    async def walk(driver):
        await driver.press("question_mark")
        assert all(
            words in driver.screen for words in ("next divergence", "In a list", "a divergence was born")
        )
        await driver.resize(80, 24)
        assert "next divergence" in driver.screen
        assert "In a list" not in driver.screen

    drive(split.survey, walk, LARGE)


def test_a_text_is_answered_by_one_move(split):
    async def walk(driver):
        await driver.press("colon")
        before = driver.app.walker.wanted
        await driver.write("greedy:95 2.attn")
        assert driver.app.walker.wanted == before + 1

    drive(split.survey, walk)
