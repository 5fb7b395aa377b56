"""Tokens of both runs, with their text where there is a vocabulary."""

from pathlib import Path

import pytest

from detrec.replayer.survey.survey import Survey
from detrec.replayer.survey.vocabulary import vocabulary
from tests.replayer.survey.traces import MANIFEST, written

ELSEWHERE = {**MANIFEST, "config": {"model": "/no/such/model", "engine": {"block_size": 4}}}


def test_the_first_flip_is_where_another_token_stands(tmp_path: Path):
    other = written(tmp_path / "b.zarr", token=lambda name, at: at + 1 + (name == "r0" and at >= 8))
    found = Survey(written(tmp_path / "a.zarr"), other).tokens("r0")
    assert [token.position for token in found.tokens if token.differs] == [8, 9]
    assert found.tokens[found.first_flip].position == 8
    flip = found.tokens[8]
    assert (flip.recorded, flip.replayed, flip.recorded_draw.margin) == (9, 10, 0.25)
    assert (flip.recorded_text, flip.replayed_text) == ("\t", "\n")
    # two tokens of prompt, then nothing known until the first draw, which stands at 6
    assert [token.recorded for token in found.tokens[:7]] == [1, 2, None, None, None, None, 7]
    assert [token.prompt for token in found.tokens[:3]] == [True, True, False]


def test_equal_tokens_have_no_flip(tmp_path: Path):
    assert Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr")).tokens("r0").first_flip is None


def test_without_the_model_there_are_ids_and_no_text(tmp_path: Path):
    found = Survey(written(tmp_path / "a.zarr", manifest=ELSEWHERE)).tokens("r0")
    assert found.tokens[0].recorded == 1
    assert {token.recorded_text for token in found.tokens} == {""}
    assert vocabulary({}) is None


def test_a_request_that_no_run_has_is_a_callers_mistake(tmp_path: Path):
    with pytest.raises(ValueError, match="no request is called 'r9'"):
        Survey(written(tmp_path / "a.zarr")).tokens("r9")
