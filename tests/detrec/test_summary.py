"""What a run is said to hold is printable, whatever its requests are called."""

from typing import Any

from detrec import summary
from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.recorder.record import Recording

HOSTILE = "a\x1b]0;owned\x07\nb"


def test_an_id_that_would_garble_a_terminal_is_escaped():
    request = Request(HOSTILE, (1, 2), SamplingParams(seed=42))
    recording = Recording("run.zarr", 1, 2, 3, (request,), {HOSTILE: [4]}, {HOSTILE: "\x1b[2J"}, 0.5)
    text = summary.recorded(recording)
    assert len(text.splitlines()) == 2
    assert text.replace("\n", "").isprintable()
    assert "owned" in text


def test_ids_and_models_of_a_trace_are_escaped():
    request = {
        "id": HOSTILE,
        "arrival": 0,
        "prompt_tokens": 2,
        "output_tokens": 1,
        "temperature": 1.0,
        "seed": 42,
    }
    facts: dict[str, Any] = dict.fromkeys(("steps", "rows", "ops", "samples", "ranks"), 1)
    facts |= {"trace": "run.zarr", "status": "complete", "events": {"preempted": 0, "hit": 0}}
    facts["manifest"] = {
        "config": {"model": HOSTILE, "engine": {"name": "builtin"}, "record": {"level": "op"}},
        "engine": {},
        "environment": {"python": "3.11"},
    }
    text = summary.to_text(facts | {"requests": [request]})
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == 7
    failed = summary.to_text(facts | {"requests": [request], "status": "failed", "reason": HOSTILE})
    assert failed.splitlines()[0].startswith("run.zarr: failed (a\\x1b]0;owned\\x07\\nb), 1 step, ")


def test_what_was_run_is_listed_in_words_and_wrapped():
    manifest = {
        "config": {
            "model": "m",
            "engine": {"name": "builtin", "deterministic": True, "seed": None, "graph": {"use": False}},
            "record": {"level": "op"},
        },
        "engine": {"model_digest": "d1"},
        "environment": {
            "python": "3.11",
            "cpu": "",
            "packages": {"numpy": "2.1"},
            "environment": {"FD_X": "1"},
        },
    }
    assert summary.ran(manifest) == {
        "model": "m (d1)",
        "engine": 'name builtin, deterministic true, graph {"use": false}',
        "recorded": "level op, python 3.11, numpy 2.1, FD_X 1",
    }
    manifest["environment"]["packages"] = {f"package-{number}": "1.0.dev20260101" for number in range(20)}
    facts: dict[str, Any] = dict.fromkeys(("steps", "rows", "ops", "samples", "ranks"), 1)
    facts |= {"trace": "run.zarr", "status": "complete", "events": {"preempted": 0, "hit": 0}}
    request = {"arrival": 0, "prompt_tokens": 2, "output_tokens": 1, "temperature": 1.0, "seed": 42}
    requests = [request | {"id": name} for name in ("r0", "a-name-of-more-than-nine")]
    lines = summary.to_text(facts | {"manifest": manifest, "requests": requests}).splitlines()
    assert all(len(line) <= 110 for line in lines)
    assert sum("package-" in line for line in lines) > 1
    assert (
        sum(line.count(f"package-{number} 1.0.dev20260101") for line in lines for number in range(20)) == 20
    )
    assert "\xa0" not in "".join(lines)
    # columns stand under their heads whatever the ids
    head, *rows = lines[-3:]
    assert {row.rindex("42") for row in rows} == {head.index("seed")}
