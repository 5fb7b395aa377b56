"""How it looks: pictures of the screen, without colour, and in the light theme."""

from difflib import unified_diff

import pytest

from detrec.story.write import write
from detrec.tui.picture import picture
from detrec.tui.states import LOOKS
from tests.command import ROOT
from tests.tui.driving import LARGE, SMALL, drive

PICTURES = ROOT / "examples" / "screenshots"


@pytest.mark.parametrize(("name", "size"), [("80x24", SMALL), ("200x60", LARGE)])
def test_the_pictures_of_the_readme_are_those_of_the_explorer_as_it_is(diverged, name, size, tmp_path):
    seen = picture(diverged("split_k_by_batch").survey, write, size)
    kept = PICTURES / f"{name}.svg"
    (tmp_path / kept.name).write_text(seen, encoding="utf-8")
    lines = kept.read_text(encoding="utf-8").splitlines(), seen.splitlines()
    moved = [line[:400] for line in unified_diff(*lines, "kept", "seen", n=0, lineterm="")]
    assert not moved[:12], f"{tmp_path / kept.name}: make screenshots keeps it"


def test_without_colour_weight_and_symbols_tell_states_apart(diverged, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    async def walk(driver):
        styles = [
            segment.style
            for strip in driver.app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None
        ]
        painter = driver.pane("map")._painter
        return styles, [painter.styles[look.style] for look in LOOKS], driver.screen

    styles, states, screen = drive(diverged("split_k_by_batch").survey, walk)
    coloured = {
        str(style)
        for style in styles
        if (style.color and not style.color.is_default) or (style.bgcolor and not style.bgcolor.is_default)
    }
    filters = "the terminal's own colours"
    assert not coloured, f"colours beside {filters}: {coloured}"
    assert {"█", "▒", "·"} <= set(screen)
    assert len(
        {(look.symbol, style.bold, style.dim) for look, style in zip(LOOKS, states, strict=True)}
    ) == len(LOOKS)


def test_states_have_symbols_of_their_own():
    symbols = [look.symbol for look in LOOKS]
    assert len(set(symbols)) == len(symbols)


@pytest.mark.parametrize("theme", ["detrec-light", "detrec-dark"])
def test_every_state_can_be_read_in_either_theme(diverged, theme):
    """At least 3 to 1 against the background, as WCAG asks of graphics."""

    async def walk(driver):
        driver.app.theme = theme
        await driver.settle()
        painter = driver.pane("map")._painter
        background = painter.blank.bgcolor
        return {
            look.word: contrast(painter.styles[look.style].color, background)
            for look in LOOKS
            if look.symbol != " "
        }

    found = drive(diverged("split_k_by_batch").survey, walk)
    assert {word: ratio for word, ratio in found.items() if ratio < FAINT.get(word, 3.0)} == {}


# what is equal steps back on purpose
FAINT = {"equal": 1.8, "recorded": 1.8}


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color):
    parts = [value / 255 for value in color.get_truecolor()]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
