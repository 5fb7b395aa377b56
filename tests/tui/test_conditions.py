"""Traces that are broken, partial, foreign or growing are shown as what they are."""

import asyncio
import shutil
import threading
from pathlib import Path

from detrec.replayer.survey.survey import Survey
from detrec.story.write import write
from detrec.tui.app import Explorer
from detrec.tui.banner import Banner
from tests.replayer.fakes import fake_trace
from tests.replayer.survey.traces import STEPS, step, writer_of, written
from tests.tui.driving import SMALL, drive


def broken(path: Path) -> str:
    """One byte of the fingerprints is another."""
    chunk = path / "fingerprints" / "0" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[8] ^= 1
    chunk.write_bytes(data)
    return str(path)


def test_there_is_no_trace(tmp_path):
    async def walk(driver):
        assert "UNREADABLE" in driver.lines[0]
        assert "no such trace" in " ".join(driver.pane("cause").plain.split())
        for key in ("n", "r", "g", "y", "e", "s", "enter", "k", "c", "7", "escape", "escape", "colon"):
            await driver.press(key)
            assert driver.status or driver.app.depth.pane != "cause", key

    drive(lambda: Survey(str(tmp_path / "nothing.zarr")), walk)


def test_a_file_of_another_kind_and_a_damaged_root(tmp_path, run):
    other = tmp_path / "notes.txt"
    other.write_text("not a trace")
    damaged = tmp_path / "damaged.zarr"
    shutil.copytree(run, damaged)
    root = damaged / "zarr.json"
    root.write_text(root.read_text().replace('"ranks"', '"ronks"'))

    async def unreadable(driver):
        assert "UNREADABLE" in driver.lines[0] or "CORRUPT" in driver.lines[0]

    drive(lambda: Survey(str(other)), unreadable)
    drive(lambda: Survey(str(damaged)), unreadable)


def test_a_corrupt_chunk_is_shown_in_the_map_and_never_as_equal(tmp_path, run):
    bad = tmp_path / "bad.zarr"
    shutil.copytree(run, bad)
    path = broken(bad)

    async def alone(driver):
        assert "CORRUPT" in driver.lines[1]
        assert "!!!!" in driver.screen
        await driver.press("2")
        assert "corrupt" in driver.screen

    async def compared(driver):
        assert "INCOMPLETE" in driver.lines[0]
        assert "·" not in "".join(driver.lines[6:20])
        assert "!!!!" in driver.screen

    drive(lambda: Survey(path), alone)
    drive(lambda: Survey(path, str(run)), compared)


def test_a_replay_that_cannot_be_read_leaves_the_recording_to_look_at(tmp_path, run):
    async def walk(driver):
        assert "UNREADABLE" in driver.screen
        await driver.press("n")
        assert driver.status

    drive(lambda: Survey(str(run), str(tmp_path / "gone.zarr")), walk)


def test_missing_cells_are_not_equal(tmp_path):
    run = written(tmp_path / "run.zarr")
    other = written(tmp_path / "other.zarr", blank=[("r1", 3, "0.attn")])

    async def walk(driver):
        assert "INCOMPLETE" in driver.lines[0]
        assert "1 cell is missing" in driver.lines[0]
        await driver.press("colon")
        await driver.write("r1:3 0.attn")
        assert "? missing" in driver.status
        assert "?" in "".join(driver.lines[6:20])

    drive(lambda: Survey(run, other), walk)


def test_a_recorder_that_died(tmp_path):
    run = written(tmp_path / "run.zarr", close=False)

    async def walk(driver):
        assert "RECORDING" in driver.lines[0]
        assert "its recorder is still running or died" in driver.lines[1]
        await driver.press("s")
        assert "r0[0:6)" in driver.screen

    drive(lambda: Survey(run), walk)


def test_a_growing_trace_is_followed(tmp_path):
    path = tmp_path / "run.zarr"
    run = fake_trace(STEPS, ids=("r0", "r1", "r2"))
    writer = writer_of(path, run)
    step(writer, run, 0, STEPS[0])
    writer.commit()

    async def walk(driver):
        assert "1 step, 9 rows" in driver.lines[0]
        await driver.press("escape")
        for index in (1, 2):
            step(writer, run, index, STEPS[index])
        writer.commit()
        await driver.until(lambda: "3 steps" in driver.lines[0])
        # who stood at the end stays at the end
        assert driver.app.place.cell.step == 2
        await driver.press("home")
        step(writer, run, 3, STEPS[3])
        writer.close()
        await driver.until(lambda: "COMPLETE" in driver.lines[0])
        assert driver.app.place.cell.step == 0
        assert driver.pane("map").field.columns == 4

    drive(lambda: Survey(str(path)), walk, follow=0.05)


def test_an_id_that_would_garble_a_terminal_is_shown_in_ascii(tmp_path):
    ids = ("r0\x1b[2J[red]", "r1\n", "r\N{SNOWMAN}")
    steps = [[part_of(ids, slice) for slice in step] for step in STEPS]
    run = written(tmp_path / "run.zarr", steps=steps, ids=ids)

    async def walk(driver):
        assert "Layers x positions of r0\\x1b[2J[red]" in driver.screen
        await driver.press("s")
        assert "\x1b" not in driver.screen
        assert "r0\\x1b[2J[red][0:6)" in driver.screen

    drive(lambda: Survey(run), walk)


def part_of(ids, slice):
    from dataclasses import replace

    return replace(slice, request=ids[int(slice.request[1])])


def test_what_is_being_opened_is_said_until_it_is_open(run):
    """A trace far away takes its time, in which the screen is there already."""
    opened = threading.Event()

    def survey():
        opened.wait(10)
        return Survey(str(run))

    async def look():
        app = Explorer(survey, write, paths=["far/run.zarr", "\x1b[2J"])
        async with app.run_test(size=SMALL) as pilot:
            await pilot.pause()
            assert app.part(Banner).plain == "opening far/run.zarr and \\x1b[2J"
            opened.set()
            while not app.idle:
                await asyncio.sleep(0.01)
            await pilot.pause()
            assert "COMPLETE" in app.part(Banner).plain

    asyncio.run(look())
