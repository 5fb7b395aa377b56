"""What each pane shows, by key, on replays that diverged and on one run alone."""

import pytest

from detrec.replayer.survey.survey import Survey
from detrec.tui.ask import Ask
from detrec.tui.keymap import KEYMAP
from tests.tui.driving import LARGE, drive


@pytest.fixture
def split(diverged):
    return diverged("split_k_by_batch")


def test_panes_by_their_keys(split):
    async def walk(driver):
        await driver.press("k")
        assert "≠  1.qkv" in driver.screen
        assert "cpu.matmul fma-chain k=0..K → cpu.split_k" in driver.screen
        await driver.press("c")
        assert driver.status == "both runs were told the same"
        assert '"builtin:qwen2-tiny"' in driver.screen
        await driver.press("s")
        assert "greedy[90:91)* seeded[0:18)*" in driver.screen
        await driver.press("tab")
        assert "Tokens of greedy" in driver.screen
        await driver.press("shift+tab", "5")
        assert "reduction-order" in driver.screen
        assert "padded the row has other bits, alone and permuted the same" in driver.screen

    drive(split.survey, walk)


def test_all_of_it_side_by_side_on_a_large_screen(split):
    async def walk(driver):
        for title in (
            "Layers x positions",
            "Ops of greedy:90",
            "Rows of 1.qkv",
            "Elements of 1.qkv",
            "Cause",
        ):
            assert title in driver.screen
        await driver.press("s")
        assert "Schedule" in driver.screen
        assert "Ops of greedy:90" in driver.screen
        await driver.resize(80, 24)
        assert "Schedule" in driver.screen
        assert "Ops of greedy:90" not in driver.screen
        await driver.resize(200, 60)
        assert "Ops of greedy:90" in driver.screen

    drive(split.survey, walk, LARGE)


def test_find_keeps_the_lines_that_hold_a_text(split):
    async def walk(driver):
        await driver.press("slash")
        await driver.write("attn_norm")
        ops = driver.pane("ops")
        assert ops.count == 4
        assert "Ops of greedy:90  /attn_norm" in driver.screen
        assert all("attn_norm" in line for line in ops.plain.splitlines()[1:])
        await driver.press("escape")
        assert ops.count == 66
        await driver.press("s", "slash")
        await driver.write("preempted")
        assert driver.pane("schedule").count > 0
        assert "preempted" in driver.pane("schedule").plain.splitlines()[1]

    drive(split.survey, walk)


def test_goto_and_what_it_says_of_a_place_that_is_not_there(split):
    async def walk(driver):
        await driver.press("colon")
        await driver.write("greedy:95 2.attn")
        assert "row greedy:95" in driver.status
        assert "op attn" in driver.status
        await driver.press("colon")
        await driver.write("nobody:3")
        assert driver.status.startswith("nobody:3: no step, request or op is called that")
        await driver.press("colon", "escape")
        assert driver.app.depth.pane == "map"

    drive(split.survey, walk)


def test_steps_layers_ranks_and_requests(split):
    async def walk(driver):
        await driver.press("right_square_bracket")
        assert "step 3" in driver.status
        await driver.press("left_square_bracket", "right_curly_bracket")
        assert "step 2 > layer 2 > op qkv" in driver.status
        await driver.press("left_curly_bracket", "left_curly_bracket", "left_curly_bracket")
        assert driver.status == "no layer before this one"
        await driver.press("greater_than_sign")
        assert driver.status == "there is one rank only"
        await driver.press("full_stop")
        assert "row seeded:" in driver.status
        await driver.press("comma", "comma")
        assert driver.status == "no request before greedy"

    drive(split.survey, walk)


def test_the_unit_of_the_elements(split):
    async def walk(driver):
        await driver.press("4")
        elements = driver.pane("elements")
        assert "ULP" in elements.plain
        await driver.press("u")
        assert "difference" in elements.plain
        await driver.press("u")
        assert "3fa3e4e4 3fa3e4e6" in elements.plain
        await driver.press("u")
        assert "ULP" in elements.plain

    drive(split.survey, walk)


def test_zoom_keeps_the_cursor_and_pans_with_it(split):
    async def walk(driver):
        heatmap = driver.pane("map")
        assert heatmap.view.everything
        await driver.press("plus", "plus", "plus")
        assert not heatmap.view.everything
        assert heatmap.column == 90
        assert heatmap.view.start <= 90 < heatmap.view.stop
        await driver.press("home")
        assert heatmap.view.start == 0
        assert driver.app.place.cell.position == 0
        await driver.press("0")
        assert heatmap.view.everything

    drive(split.survey, walk)


def test_the_mouse_selects_opens_and_zooms(split):
    async def walk(driver):
        heatmap = driver.pane("map")
        top = heatmap.region.y
        row = next(y for y, line in enumerate(driver.lines) if line.strip().startswith("2 "))
        await driver.click("#map", 13 + 5, row - top)
        assert "layer 2" in driver.status
        assert driver.app.place.cell.position == heatmap.view.column_at(5)
        zoom = heatmap.view.zoom
        await driver.wheel("#map", 18, row - top, up=True)
        assert heatmap.view.zoom == zoom + 1
        await driver.click("#tabs", 8, 0)
        assert driver.app.depth.pane == "ops"

    drive(split.survey, walk)


def test_enter_goes_to_what_a_line_is_about(split):
    async def walk(driver):
        await driver.press("s", "end", "enter")
        assert "step 50" in driver.status
        await driver.press("k", "enter")
        assert "step 2" in driver.status
        assert "op qkv" in driver.status
        await driver.press("7", "home", "enter")
        assert driver.app.place.cell.position == 0

    drive(split.survey, walk)


def test_no_key_is_without_effect_or_message(split):
    async def walk(driver):
        await driver.press("z")
        assert driver.status == "z does nothing here; ? lists the keys"
        await driver.press("ctrl+c")
        assert driver.status == "q leaves"
        await driver.press("question_mark")
        for words in ("next divergence", "one level deeper", "copy the command"):
            assert words in driver.screen
        await driver.press("escape")
        assert len(driver.app.screen_stack) == 1

    drive(split.survey, walk, LARGE)


@pytest.mark.parametrize("alone", [False, True], ids=["two runs", "one run"])
def test_every_key_of_the_keymap_shows_something(split, alone):
    survey = (lambda: Survey(split.run)) if alone else split.survey

    async def walk(driver):
        for binding in KEYMAP:
            if binding.id == "app.quit":
                continue
            driver.app.hush()
            await driver.settle()
            before = driver.screen
            await driver.press(binding.key)
            await driver.until(lambda: not driver.app.busy)
            assert driver.screen != before, binding.id
            while len(driver.app.screen_stack) > 1:
                await driver.press("escape")
            if driver.app.part(Ask).has_class("-open"):
                await driver.press("escape")

    drive(survey, walk)


def test_the_palette_has_every_command(split):
    async def walk(driver):
        names = [command.title for command in driver.app.get_system_commands(driver.app.screen)]
        assert {"Next divergence", "Every key", "Leave"} <= set(names)
        await driver.press("ctrl+p")
        assert len(driver.app.screen_stack) == 2
        await driver.press("escape")

    drive(split.survey, walk)


def test_one_run_alone_shows_its_schedule_kv_tokens_and_kernels(run):
    async def walk(driver):
        assert "COMPLETE" in driver.lines[0]
        assert "51 steps, 673 rows x 66 ops" in driver.lines[0]
        await driver.press("n")
        assert driver.status.startswith("one run alone")
        await driver.press("s")
        assert "KV of 20" in driver.screen
        assert "greedy[48:90)*" in driver.screen
        await driver.press("k")
        assert "cpu.matmul fma-chain k=0..K" in driver.screen
        await driver.press("7")
        assert "Tokens of greedy" in driver.screen
        await driver.press("g")
        assert "one run alone" in driver.status

    drive(lambda: Survey(str(run)), walk)


def test_ops_and_rows_of_two_ranks(tmp_path):
    from tests.replayer.survey.traces import written

    run = written(tmp_path / "run.zarr", ranks=2)
    other = written(tmp_path / "other.zarr", ranks=2, changes=[("r1", 3, "0.attn", 1)])

    async def walk(driver):
        assert "rank 1" in driver.lines[0]
        await driver.press("greater_than_sign")
        assert "rank 0" in driver.status
        assert "equal" in driver.status
        await driver.press("greater_than_sign")
        assert "rank 1" in driver.status
        assert "born" in driver.status
        await driver.press("greater_than_sign")
        assert driver.status == "there are ranks 0 to 1, and the worst of them"
        await driver.press("2")
        assert "rank" in driver.pane("ops").plain.splitlines()[0]

    drive(lambda: Survey(run, other), walk)
