"""From the banner to the element that differs, by keys alone."""

import pytest
from textual import events

from detrec.tui.ask import Ask
from tests.tui.driving import LARGE, SMALL, drive

# fault, the first divergence, its cause, and an element of the op's output in both runs
WALKS = [
    pytest.param(
        "split_k_by_batch",
        "step 2, request greedy, position 90, layer 1, op qkv",
        "reduction-order",
        "213 of 256 differ",
        SMALL,
        id="reduction order",
    ),
    pytest.param(
        "bitflip",
        "step 4, request greedy, position 92, layer 1, op attn",
        "corruption",
        "1 of 128 differ",
        SMALL,
        id="one bit",
    ),
    pytest.param(
        "silu_by_tanh",
        "step 0, request greedy, position 0, layer 0, op act",
        "numerics",
        "108 of 256 differ",
        LARGE,
        id="numerics",
    ),
]


@pytest.mark.parametrize(("fault", "first", "cause", "differing", "size"), WALKS)
def test_the_keyboard_leads_from_the_banner_to_the_differing_element(
    diverged, fault, first, cause, differing, size
):
    at = dict(part.split(" ", 1) for part in first.split(", "))
    name = f"{at['layer']}.{at['op']}"
    place = f"{at['request']}:{at['position']}"

    async def walk(driver):
        assert "DIVERGED" in driver.lines[0]
        assert f"first at {first}" in driver.lines[0]
        assert cause in driver.lines[1]
        assert "born" in driver.lines[2]
        await driver.press("escape")
        assert "Layers x steps" in driver.screen
        await driver.press("f", "enter")
        assert f"Layers x positions of {at['request']}" in driver.screen
        assert f"layer {at['layer']}" in driver.status
        await driver.press("enter")
        assert f"Ops of {place}" in driver.screen
        line = next(line for line in driver.lines if f"{name} " in line and "born" in line)
        recorded, replayed = (f"{bits:016x}" for bits in prints(diverged(fault)))
        assert recorded in line
        assert replayed in line
        await driver.press("enter")
        assert f"Rows of {name} in step {at['step']}" in driver.screen
        assert any(replayed in line and at["request"] in line for line in driver.lines)
        await driver.press("enter")
        assert f"Elements of {name}" in driver.screen
        assert "≠" in driver.screen
        elements = driver.pane("elements")
        assert differing in elements.border_subtitle
        await driver.press("enter")
        assert driver.status == "an element is as deep as it gets"

    drive(diverged(fault).survey, walk, size)


def prints(replay):
    first = replay.found.comparison.first
    return first.recorded, first.replayed


def test_every_way_back_up(diverged):
    async def walk(driver):
        await driver.press("enter", "enter", "enter")
        for pane, shown in (("rows", "Rows of"), ("ops", "Ops of"), ("map", "positions"), ("map", "steps")):
            await driver.press("escape")
            assert driver.app.depth.pane == pane
            assert shown in driver.screen
        await driver.press("escape")
        assert driver.status == "this is the top: q leaves"

    drive(diverged("split_k_by_batch").survey, walk)


def test_next_and_previous_divergence(diverged):
    async def walk(driver):
        first = driver.app.place.cell
        await driver.press("n")
        second = driver.app.place.cell
        assert (second.step, second.op, second.row) > (first.step, first.op, first.row)
        await driver.press("n", "N")
        assert driver.app.place.cell == second
        await driver.press("N")
        assert driver.app.place.cell == first
        await driver.press("N")
        assert driver.status == "no divergence before this one"
        await driver.press("n", "n", "f")
        assert driver.app.place.cell == first

    drive(diverged("split_k_by_batch").survey, walk)


def test_born_only_walks_over_inherited_rows(diverged):
    replay = diverged("bitflip")
    assert replay.found.comparison.counts.born == 1

    async def walk(driver):
        await driver.press("n")
        assert driver.app.place.cell != replay.survey().first().cell
        await driver.press("f", "b", "n")
        assert driver.status == "no born divergence after this one"
        assert "▒" not in "".join(driver.lines[5:21])

    drive(replay.survey, walk)


def test_keys_pressed_faster_than_they_are_answered_add_up(diverged):
    async def walk(driver):
        steps = driver.app.place.cell.step
        for _ in range(5):
            driver.app.simulate_key("right_square_bracket")
        await driver.settle()
        assert driver.app.place.cell.step == steps + 5

    drive(diverged("split_k_by_batch").survey, walk)


@pytest.mark.parametrize(
    ("key", "kept"),
    [pytest.param("colon", "rq:45/", id="goto"), pytest.param("slash", "rq:45/", id="find")],
)
def test_letters_typed_right_behind_a_key_that_asks_are_its_texts(diverged, key, kept):
    """A hand is quicker than a screen: r would replay, q would leave, : and / would ask anew."""
    names = {":": "colon", "/": "slash"}

    async def walk(driver):
        driver.app.simulate_key(key)
        for letter in kept:
            driver.app.post_message(events.Key(names.get(letter, letter), letter))
        await driver.settle()
        assert not driver.app.busy
        assert driver.app.query_one("#ask Input").value == kept

    drive(diverged("bitflip").survey, walk)


def test_under_a_text_that_lies_over_the_screen_no_key_asks(diverged):
    async def walk(driver):
        await driver.press("question_mark", "colon", "slash", "e")
        assert not driver.app.part(Ask).has_class("-open")
        await driver.press("escape", "colon")
        assert driver.app.part(Ask).has_class("-open")

    drive(diverged("bitflip").survey, walk)
