"""What a comparison looks like, to a reader and to a program."""

import json
from dataclasses import replace

import numpy as np
import pytest

from detrec.engines.base import Event, EventKind
from detrec.replayer.compare import compare
from detrec.replayer.hunt import Hunt
from detrec.replayer.manifest_diff import ManifestDifference
from detrec.report import exit_code, to_json, to_text
from detrec.story.markdown import _tokens as markdown_tokens
from tests.detrec.compared import STEPS, diverged
from tests.replayer.fakes import fake_trace, part


def test_identical_in_text():
    assert to_text(compare(fake_trace(STEPS), fake_trace(STEPS)), seconds=0.5).splitlines() == [
        "identical: 71 fingerprints of 9 rows and 9 ops are equal",
        "  cells      71 compared: 71 equal, 0 born, 0 inherited; 0 missing",
        "  tokens     equal",
        "  time       0.50 s",
    ]


def test_a_divergence_in_text():
    assert to_text(diverged(), seconds=0.5).splitlines() == [
        "diverged: first at step 1, request r1, position 3, layer 1, op attn",
        "  bits       recorded 00000000000040c6, replayed 00000001000040c6",
        "  kernel     recorded kernel, replayed split_k",
        "  manifest   config.split_kv_size: recorded 16, replayed 32",
        "  schedule   step 1, order: recorded r0[4:5) r1[3:4), replayed r1[3:4) r0[4:5)",
        "  cells      71 compared: 67 equal, 1 born, 3 inherited; 0 missing",
        "  tokens     request r1, position 3: recorded 5, replayed 105, recorded margin 0.25 nats",
        "  time       0.50 s",
    ]


def test_missing_cells_in_text():
    longer = [*STEPS, ([part("r0", 0, 6)], [Event(EventKind.PREEMPTED, "r0", 5)])]
    assert to_text(compare(fake_trace(longer), fake_trace(STEPS)), seconds=0.5).splitlines() == [
        "could not tell: 71 fingerprints equal and none differ, but some are missing",
        "  schedule   step 2, steps: recorded r0[0:6), replayed ended",
        "  cells      71 compared: 71 equal, 0 born, 0 inherited; 9 missing",
        "  missing    1 row is in one run only",
        "  rows       5 computed again after a preemption, in both runs together",
        "  tokens     equal where both runs drew one",
        "  time       0.50 s",
    ]


@pytest.mark.parametrize("steps", [[], [[part("r2", 0, 2)]]], ids=["no steps", "other requests"])
def test_nothing_to_compare_in_text(steps):
    ids = ("r0", "r1", "r2")
    told = to_text(
        compare(fake_trace(STEPS if steps else [], ids=ids), fake_trace(steps, ids=ids)), seconds=0.5
    )
    assert told.startswith("could not tell: no fingerprint is in both runs\n")
    assert "  tokens     none was drawn at one place in both runs\n" in told


def test_the_json_of_a_divergence():
    assert to_json(diverged(), trace="a.zarr", replayed="b.zarr", seconds=0.5) == {
        "verdict": "diverged",
        "first": {
            "step": 1,
            "request": "r1",
            "position": 3,
            "layer": 1,
            "op": "attn",
            "rank": 0,
            "recorded": "00000000000040c6",
            "replayed": "00000001000040c6",
        },
        "counts": {"compared": 71, "equal": 67, "born": 1, "inherited": 3, "missing": 0},
        "rows": {
            "matched": 9,
            "cached": 0,
            "superseded": 0,
            "missing": 0,
            "after_flip": 0,
            "beyond": 0,
        },
        "kernels": {"recorded": "kernel", "replayed": "split_k"},
        "cause": None,
        "tokens": {
            "equal": False,
            "first_flip": {"request": "r1", "position": 3, "recorded": 5, "replayed": 105, "margin": 0.25},
        },
        "manifest_diff": [{"key": "config.split_kv_size", "recorded": 16, "replayed": 32}],
        "schedule_diff": [
            {"step": 1, "what": "order", "recorded": "r0[4:5) r1[3:4)", "replayed": "r1[3:4) r0[4:5)"}
        ],
        "trace": "a.zarr",
        "replayed": "b.zarr",
        "seconds": 0.5,
    }


def test_the_json_has_one_order_of_keys_and_plain_values():
    for comparison in (
        diverged(),
        compare(fake_trace(STEPS), fake_trace(STEPS)),
        compare(fake_trace([]), fake_trace([])),
    ):
        data = to_json(comparison, trace="a", replayed="b", seconds=0.5)
        assert json.loads(json.dumps(data)) == data
        assert list(data) == [
            "verdict",
            "first",
            "counts",
            "rows",
            "kernels",
            "cause",
            "tokens",
            "manifest_diff",
            "schedule_diff",
            "trace",
            "replayed",
            "seconds",
        ]


def test_the_json_says_how_many_schedule_differences_it_leaves_out():
    steps = [[part("r0", at, at + 1), part("r1", at, at + 1)] for at in range(30)]
    found = compare(fake_trace(steps), fake_trace([step[::-1] for step in steps]))
    entries = to_json(found, trace="a", replayed="b", seconds=0.5)["schedule_diff"]
    assert len(entries) == 21
    assert entries[-1] == {"step": None, "what": "10 more", "recorded": None, "replayed": None}
    assert "             and 27 more" in to_text(found, seconds=0.5).splitlines()


def test_a_schedule_difference_after_the_divergence_does_not_explain_it():
    recorded, replayed = fake_trace(STEPS), fake_trace([STEPS[0], STEPS[1][::-1]])
    replayed.change("r0", 0, "embedding")
    text = to_text(compare(recorded, replayed), seconds=0.5)
    assert "order" not in text
    assert "1 schedule difference after the divergence" in text


@pytest.mark.parametrize(("verdict", "code"), [("identical", 0), ("diverged", 1), ("incomplete", 2)])
def test_exit_codes_are_those_of_diff(verdict, code):
    assert exit_code(replace(diverged(), verdict=verdict)) == code


def test_text_stays_short_and_printable_whatever_the_traces_hold():
    many = {f"key{i}": "\x1b[31m" + "x" * 500 for i in range(40)}
    ids = ("\x1b[31m", "r" * 300)
    steps = [[part(name, at, at + 1) for name in ids] for at in range(40)]
    recorded = fake_trace(steps, ids=ids)
    replayed = fake_trace([step[::-1] for step in steps], ids=ids, manifest=many)
    replayed.cells[:, -1] += np.uint64(1 << 32)
    text = to_text(compare(recorded, replayed), seconds=0.5)
    assert len(text.splitlines()) <= 16
    assert text.replace("\n", "").isprintable()
    assert max(map(len, text.splitlines()[1:])) < 200


def test_a_hunt_says_how_many_replays_diverged_and_where():
    first = diverged().first
    found = Hunt(9, {2: first, 4: None, 5: first, 6: first}, None, 4.5)
    assert to_text(diverged(), seconds=4.5, hunt=found).splitlines()[-5:] == [
        "  repeats    4 of 9 replays diverged",
        "             replay 2: step 1, request r1, position 3, layer 1, op attn",
        "             replay 4: other tokens were drawn, and no fingerprint shows where",
        "             replay 5: step 1, request r1, position 3, layer 1, op attn",
        "             and 1 more",
    ]
    data = to_json(diverged(), trace="a", replayed="b", seconds=4.5, hunt=found)
    assert json.loads(json.dumps(data)) == data
    assert list(data)[-1] == "repeats"
    assert (data["repeats"]["times"], data["repeats"]["diverged"]) == (9, 4)
    assert data["repeats"]["firsts"][:2] == [
        {"replay": 2, "first": data["first"]},
        {"replay": 4, "first": None},
    ]


def test_a_long_value_is_cut():
    found = replace(diverged(), manifest_diff=(ManifestDifference("key", "x" * 100, 1),))
    assert f'key: recorded "{"x" * 56}..., replayed 1' in to_text(found, seconds=0.5)


def test_another_model_is_told_first_and_settings_of_one_run_alone_last():
    differences = (
        ManifestDifference("block_size", None, 16),
        ManifestDifference("name", "transformers", "builtin"),
        ManifestDifference("config.model", "a", "b"),
    )
    text = to_text(replace(diverged(), manifest_diff=differences), seconds=0.5)
    at = [text.index(f"{difference.key}: recorded") for difference in differences]
    assert len(at) == 3
    assert at[2] < at[1] < at[0]


@pytest.mark.parametrize("margin", [float("nan"), float("inf")])
def test_a_margin_that_was_not_kept_is_no_number(margin):
    comparison = diverged()
    flip = replace(comparison.tokens.first_flip, margin=margin)
    comparison = replace(comparison, tokens=replace(comparison.tokens, first_flip=flip))
    assert "replayed 105, no recorded margin" in to_text(comparison, seconds=0)
    data = to_json(comparison, trace="a", replayed="b", seconds=0)
    assert json.loads(json.dumps(data, allow_nan=False))["tokens"]["first_flip"]["margin"] is None
    assert "replayed 105, no recorded margin" in "\n".join(markdown_tokens(data["tokens"]))
