"""The explorer on a real terminal: opened by its commands, resized, left; nothing stays garbled."""

import re

import pytest

from detrec import opening
from detrec.errors import ConfigError
from tests.command import detrec
from tests.tui.terminal import Terminal

ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"


def test_explore_opens_follows_a_resize_and_leaves_the_terminal_as_it_was(run):
    with Terminal("explore", run) as terminal:
        terminal.until("COMPLETE")
        terminal.until("recorded")
        terminal.press("s")
        terminal.until("KV of 20")
        terminal.resize(200, 60)
        terminal.until("Rows of embedding in step 0")
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.after == terminal.before
    assert terminal.drawn.count(ALTERNATE) == terminal.drawn.count(BACK) == 1
    # the cursor is back, the mouse is no longer watched
    rest = terminal.drawn[terminal.drawn.index(BACK) :]
    assert b"\x1b[?25h" in rest
    assert b"\x1b[?1000l" in terminal.drawn
    assert re.sub(rb"\x1b\[[?>=<]?[\d;]*[a-zA-Z]", b"", rest).strip() == b""


def test_an_explorer_whose_terminal_has_gone_ends(run):
    with Terminal("explore", run) as terminal:
        terminal.until("COMPLETE")
        assert terminal.hang_up() == 2


def test_a_replay_that_diverges_opens_the_explorer_where_it_was_told_to(run):
    with Terminal("replay", run, "--fault", "bitflip", "--at", "greedy:93 1.act") as terminal:
        terminal.until("DIVERGED")
        terminal.until("greedy:93")
        terminal.press("q")
        assert terminal.end() == 1
    # the report is there when the explorer is gone
    assert b"diverged: first at step 4" in terminal.drawn[: terminal.drawn.index(ALTERNATE)]


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["--fault", "bitflip", "--no-tui"], id="told not to"),
        pytest.param([], id="identical"),
    ],
)
def test_a_replay_that_does_not_open_the_explorer(run, args):
    with Terminal("replay", run, "--no-diagnose", *args) as terminal:
        assert terminal.end() == (1 if args else 0)
    assert ALTERNATE not in terminal.drawn


def test_a_terminal_that_can_only_print_gets_the_report_and_its_exit_code(run):
    with Terminal("replay", run, "--no-diagnose", "--fault", "bitflip", kind="dumb") as terminal:
        assert terminal.end() == 1
    assert b"diverged: first at step 4" in terminal.drawn
    assert b"error" not in terminal.drawn


def test_no_terminal_no_explorer(run):
    found = detrec("explore", run)
    assert found.code == 2
    assert found.stderr.startswith("detrec: error: the explorer needs a terminal\nhint: ")
    assert found.stdout == ""


def test_an_explorer_that_was_asked_for_and_cannot_be(run):
    found = detrec("replay", run, "--tui")
    assert found.code == 2
    assert "needs a terminal" in found.stderr
    with pytest.raises(ConfigError, match="not with --json"):
        opening.opens(True, as_json=True)


def test_a_place_for_an_explorer_that_does_not_open(run):
    found = detrec("replay", run, "--at", "greedy:93")
    assert found.code == 2
    assert found.stderr.startswith("detrec: error: --at greedy:93: is where the explorer opens")
