"""What is on the screen is in what `detrec report --json` prints of the same cell."""

import json
import re

import pytest

from detrec.story.facts import facts
from tests.tui.driving import drive

# a number, a fingerprint, a token or a name; words of the explorer's own are none of these
FACT = re.compile(r"[0-9a-f]{16}|-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?|\w+\.\w+")


@pytest.mark.parametrize("fault", ["split_k_by_batch", "seed_drift"])
def test_json_holds_every_fact_that_is_shown(diverged, fault):
    replay = diverged(fault)

    async def walk(driver):
        shown = {"banner": driver.app.query_one("#banner").plain}
        for key, name in zip("23456789", PANES, strict=True):
            await driver.press(key)
            lines = driver.lines[5:-2]
            shown[name] = "\n".join([driver.lines[4], *lines])
        # a story tells of one row, and of the tokens and the steps around it
        cells = [*driver.pane("rows").cells[:16]]
        survey = driver.app.survey
        tokens = [line for line in shown["tokens"].splitlines()[2:] if line.strip()]
        cells += [tokens_at(survey, line) for line in (tokens[0], tokens[-1])]
        cells += [survey.goto(f"step {step}") for step in range(1, 20, 4)]
        return shown, known([facts(survey, cell=cell) for cell in cells])

    def tokens_at(survey, line):
        position = int(re.search(r"\d+", line).group())
        request = survey.first().cell.request
        return survey.goto(f"{request}:{max(position - 1, 0)}")

    shown, held = drive(replay.survey, walk)
    for pane, text in shown.items():
        lost = {fact for fact in FACT.findall(text) if not held(fact)}
        assert not lost, f"{pane} shows what the JSON does not hold: {sorted(lost)}\n{text}"
        assert FACT.search(text), f"{pane} shows no fact at all:\n{text}"


PANES = ("ops", "rows", "elements", "cause", "schedule", "tokens", "manifest", "kernels")


def known(stories):
    """Is a fact among the values of these objects? As a text, or as a number to the digits that are shown."""
    texts, numbers = [], set()
    for value in leaves(stories):
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float):
            numbers.add(value)
        else:
            texts.append(str(value))
    whole = json.dumps(texts)

    def holds(fact):
        if fact in whole or f'"{fact}' in whole:
            return True
        try:
            number = float(fact.replace(",", ""))
        except ValueError:
            return False
        mantissa, _, power = fact.partition("e")
        digits = len(mantissa.partition(".")[2])
        error = 0.51 * 10.0 ** (int(power or 0) - digits) if "." in mantissa or power else 0.0
        # the last position of a slice is shown, its end is told; a dash may stand before a number
        near = (number, number + 1, -number, -number + 1)
        return any(abs(value - each) <= error for value in numbers for each in near)

    return holds


def leaves(value, path=""):
    if isinstance(value, dict):
        for name, part in value.items():
            yield f"{path}.{name}"
            yield from leaves(part, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        yield len(value)
        for part in value:
            yield from leaves(part)
    else:
        yield value


def test_a_fact_that_the_json_lacks_is_seen(diverged):
    replay = diverged("split_k_by_batch")
    held = known([facts(replay.survey())])
    assert held("ad3bdb5b1e165845")
    assert not held("ad3bdb5b1e165846")
    assert not held("4.qkv")
    assert not held("987,654,321")
