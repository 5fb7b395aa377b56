"""Grafting, replaying, copying and writing, on the real replayer."""

import json
import re
import shlex

import pytest

from detrec.replayer.replay import replay
from detrec.replayer.survey.command import Replayed
from detrec.replayer.survey.survey import Survey
from tests.command import detrec
from tests.tui.driving import drive


def test_a_graft_measures_the_cell_and_brings_its_tensors(diverged):
    split = diverged("split_k_by_batch")

    async def walk(driver):
        await driver.press("colon")
        await driver.write("greedy:95 1.qkv")
        await driver.press("4")
        assert "no tensors of 1.qkv in step 7: g derives them again" in driver.screen
        await driver.press("g")
        await driver.until(lambda: not driver.app.busy)
        assert driver.status.startswith("all inputs are equal; either op gives its own output again")
        assert re.search(r"≠ +\d+ ", driver.screen)
        await driver.press("5")
        assert "measured   1.qkv of greedy:95" in driver.pane("cause").plain

    drive(split.survey, walk)


def test_tensors_that_are_not_those_of_the_trace_are_not_shown(diverged):
    """Two traces do not tell that one was made with a fault: run again without it, its bits are others."""

    async def walk(driver):
        await driver.press("4", "g")
        await driver.until(lambda: not driver.app.busy)
        assert "the replayed run gives other bits here" in driver.status
        assert "no tensors of 1.qkv in step 2" in driver.screen

    drive(diverged("split_k_by_batch").traces, walk)


def test_a_graft_that_cannot_be_says_why(diverged):
    async def walk(driver):
        await driver.press("colon")
        await driver.write("greedy:0 0.attn")
        await driver.press("g")
        await driver.until(lambda: not driver.app.busy)
        assert driver.status == "graft: 0.attn of greedy:0 is equal: nothing to graft"

    drive(diverged("split_k_by_batch").survey, walk)


def test_one_run_is_replayed_and_stays_where_one_stood(run):
    async def walk(driver):
        await driver.press("colon")
        await driver.write("seeded:3 2.act")
        await driver.press("r")
        await driver.until(lambda: not driver.app.busy)
        assert "IDENTICAL" in driver.lines[0]
        assert driver.app.survey.other is not None
        assert driver.app.place.cell.position == 3
        assert "2.act" in driver.app.survey.runs.ops[driver.app.place.cell.op]

    drive(lambda: Survey(str(run)), walk)


def test_a_replay_ends_with_the_step_one_stands_in_and_the_next_key_replays_all(run):
    copied = []

    async def walk(driver):
        driver.app.copy_to_clipboard = copied.append
        await driver.press("colon")
        await driver.write("step 5")
        await driver.press("r")
        await driver.until(lambda: not driver.app.busy)
        assert driver.status == (
            "replayed up to step 5, of 51 steps: identical so far; R replays the whole run"
        )
        assert "PARTIAL" in driver.screen
        assert driver.app.survey.runs.replayed.n_steps == 6
        assert driver.app.place.cell.step == 5
        await driver.press("y")
        await driver.press("escape", "colon")
        await driver.write("step 6")
        assert driver.status == "replayed up to step 5: R replays the whole run"
        await driver.press("R")
        await driver.until(lambda: not driver.app.busy)
        assert driver.status == "replayed the whole run, 51 steps: identical"
        assert "PARTIAL" not in driver.screen
        await driver.press("y")

    drive(lambda: Survey(str(run)), walk)
    commands = [shlex.split(text) for text in copied]
    assert commands[0][:5] == ["detrec", "replay", str(run), "--until", "5"]
    assert "--until" not in commands[1]


def test_of_a_replay_that_diverged_the_next_one_is_made_alike(diverged):
    split = diverged("split_k_by_batch")

    async def walk(driver):
        await driver.press("f", "r")
        await driver.until(lambda: not driver.app.busy)
        assert driver.status.startswith("replayed up to step 2, of 51 steps: diverged so far")
        assert driver.app.survey.made_by == Replayed(fault="split_k_by_batch", until=2)
        assert driver.app.survey.first().cell.position == 90
        # the cause is looked into as it is of a whole replay
        assert driver.app.survey.diagnosis.cause == "reduction-order"

    drive(split.survey, walk)


def test_a_replay_can_be_cancelled(run, monkeypatch):
    async def walk(driver):
        def held(*args, progress, **options):
            def late(*told):
                # until somebody has cancelled it: a busy machine may bring the key when it is done
                assert driver.app._cancel.wait(60)
                progress(*told)

            return replay(*args, progress=late, **options)

        monkeypatch.setattr("detrec.replayer.replay.replay", held)
        driver.app.simulate_key("r")
        driver.app.simulate_key("escape")
        await driver.until(lambda: not driver.app.busy)
        assert driver.app.survey.other is None
        assert driver.status == "replay up to step 0: cancelled"

    drive(lambda: Survey(str(run)), walk)


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        pytest.param({"name": "builtin"}, "nowhere.gguf", id="no model"),
        pytest.param({}, "failed by KeyError", id="a manifest that no detrec writes"),
    ],
)
def test_a_trace_that_cannot_be_replayed_says_why(tmp_path, engine, says):
    from tests.replayer.survey.traces import written

    path = written(tmp_path / "run.zarr", manifest={"config": {"model": "nowhere.gguf", "engine": engine}})

    async def walk(driver):
        await driver.press("r")
        await driver.until(lambda: not driver.app.busy)
        assert driver.status.startswith("replay up to step 0: ")
        assert says in driver.status
        assert driver.app.survey.other is None

    drive(lambda: Survey(path), walk)


def test_the_copied_command_opens_the_view_again(diverged):
    split = diverged("split_k_by_batch")
    copied = []

    async def walk(driver):
        driver.app.copy_to_clipboard = copied.append
        await driver.press("n", "y")
        assert "--at" in driver.screen
        assert "1.qkv" in driver.screen
        await driver.press("escape")
        return driver.app.place.cell

    cell = drive(split.survey, walk)
    words = shlex.split(copied[0])
    assert words[:5] == ["detrec", "replay", split.run, "--fault", "split_k_by_batch"]
    assert words[5:7] == ["--tui", "--at"]
    assert split.survey().goto(words[7]) == cell
    # the options are detrec's own, and what they say is what made this divergence
    found = detrec(*words[1:5], "--no-diagnose", "--json")
    assert found.code == 1
    assert found.json()["first"]["position"] == 90


def test_the_story_of_the_cell_is_written_in_every_form(diverged, tmp_path):
    split = diverged("split_k_by_batch")

    async def walk(driver):
        for ending in ("json", "md", "svg", "html"):
            await driver.press("e", "ctrl+u")
            await driver.write(str(tmp_path / f"story.{ending}"))
            await driver.until(lambda: not driver.app.busy)
            assert driver.status.startswith("written: ")
        await driver.press("e", "ctrl+u")
        await driver.write(str(tmp_path / "story.md"))
        await driver.until(lambda: not driver.app.busy)
        assert "exists already" in driver.status
        await driver.press("e", "ctrl+u")
        await driver.write(str(tmp_path / "story.txt"))
        await driver.until(lambda: not driver.app.busy)
        assert "expected a name that ends in" in driver.status

    drive(split.survey, walk)
    assert json.loads((tmp_path / "story.json").read_text())["first"]["op"] == "qkv"
    assert (tmp_path / "story.svg").read_text().startswith("<svg")
    for ending in ("md", "html"):
        assert "1.qkv" in (tmp_path / f"story.{ending}").read_text()
