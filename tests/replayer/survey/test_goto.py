"""Places as people write them."""

from pathlib import Path

import pytest

from detrec.replayer.survey.survey import Survey
from tests.replayer.fakes import part
from tests.replayer.survey.traces import written


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    return Survey(written(tmp_path / "a.zarr"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("step 2", (2, "r0", 7, "embedding")),
        ("2", (2, "r0", 7, "embedding")),
        ("r1:3", (1, "r1", 3, "embedding")),
        ("r1:3 1.attn", (1, "r1", 3, "1.attn")),
        ("1.attn r1:3", (1, "r1", 3, "1.attn")),
        ("layer 1 step 3", (3, "r0", 8, "1.qkv")),
        ("r2", (1, "r2", 0, "embedding")),
        ("step 2 r2:6 sampled", (2, "r2", 6, "sampled")),
    ],
)
def test_what_is_meant(survey: Survey, text: str, wanted: tuple):
    cell = survey.goto(text)
    assert (cell.step, cell.request, cell.position, survey.runs.ops[cell.op]) == wanted


def test_what_is_not_named_is_as_here(survey: Survey):
    here = survey.goto("r1:3 1.attn")
    assert survey.goto("0.qkv", here) == survey.goto("r1:3 0.qkv")
    assert survey.goto("step 2", here) == survey.goto("r1:4 1.attn")
    assert survey.goto("r0:7", here) == survey.goto("r0:7 1.attn")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name a step"),
        ("step 4", "steps 0 to 3"),
        ("r1:9", "it has 5 positions"),
        ("r00:1", "did you mean r0"),
        ("layer 7", "no layer 7"),
        ("1.atn", "did you mean 1.attn"),
        ("step 3 r1:3", "r1:3 was not computed in step 3"),
        ("1.attn", "as well"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(survey: Survey, text: str, says: str):
    with pytest.raises(ValueError, match=says):
        survey.goto(text)


def test_ids_may_hold_blanks_and_colons(tmp_path: Path):
    steps = [[part("a b:1", 0, 3), part("12", 0, 2)]]
    survey = Survey(written(tmp_path / "a.zarr", steps, ids=("a b:1", "12")))
    cell = survey.goto("a b:1:2 0.attn")
    assert (cell.request, cell.position) == ("a b:1", 2)
    assert survey.goto("12:1").request == "12"
