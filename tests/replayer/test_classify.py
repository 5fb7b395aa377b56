"""A cause is said when all that it needs was measured, and only then."""

import json
from dataclasses import asdict, fields, replace

import pytest

from detrec.replayer.classify import RULES, classify
from detrec.replayer.diagnosis import CLASSES
from detrec.replayer.findings import Findings, Graft, Ranks, Reference
from tests.replayer.findings import (
    CASES,
    FIELDS,
    FLIPPED_WEIGHT,
    ONE_BIT,
    WENT_WELL_AGAIN,
    at,
    measured,
    told,
    traces_alone,
)

CAUSES = {
    "one bit of a weight": "corruption",
    "another model": "input",
    "another model by name": "input",
    "another model by digest": "input",
    "another prompt": "input",
    "other sampling parameters": "input",
    "another number format": "environment",
    "another device in low precision": "environment",
    "kernels of another version": "environment",
    "another number of ranks": "collective",
    "another seed or counter": "rng",
    "stale output": "cache",
    "equal partials, several sums": "collective",
    "unstable op": "race",
    "one bit, once": "corruption",
    "one bit, again there": "corruption",
    "lost KV": "cache",
    "an unasked cut": "schedule",
    "equal partials, another sum": "collective",
    "batch-variant op": "reduction-order",
    "another kernel": "kernel-choice",
    "another kernel each launch": "kernel-choice",
    "other arithmetic": "numerics",
}


def test_there_is_a_case_for_every_rule():
    assert [rule.name for rule in RULES] == list(CAUSES) == list(CASES)
    assert {rule.cause for rule in RULES} <= set(CLASSES) - {"unknown"}
    known = {field.name for field in fields(Findings)}
    assert all(rule.rests_on and set(rule.rests_on) <= known for rule in RULES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_holds_for_what_it_is_for(name):
    diagnosis = classify(CASES[name])
    assert (diagnosis.rule, diagnosis.cause) == (name, CAUSES[name])
    assert diagnosis.summary
    assert len(diagnosis.summary) < 160
    assert json.loads(json.dumps(asdict(diagnosis)))["evidence"]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_does_not_hold_without_what_it_rests_on(name):
    (rule,) = (rule for rule in RULES if rule.name == name)
    for field in rule.rests_on:
        nothing = () if field in ("manifest", "schedule") else None
        assert classify(replace(CASES[name], **{field: nothing})).rule != name, field


OPEN = [
    pytest.param(traces_alone("qkv"), "must be run again to say why", id="traces alone"),
    pytest.param(traces_alone("qkv", kernels=("a", "b")), "whether that is why", id="traces and kernels"),
    pytest.param(
        traces_alone("qkv", ranks=Ranks(None, (4, 4), (2,))),
        "of 4 ranks only rank 2 had other bits",
        id="one rank",
    ),
    pytest.param(measured("qkv", reference=Reference(False), graft=None), "lost", id="not to be had again"),
    pytest.param(measured("qkv", graft=None, repeats=None), "not compared", id="no graft"),
    pytest.param(
        measured("qkv", graft=Graft(("x",), "recorded", "replayed")), "other inputs (x)", id="inherited"
    ),
    pytest.param(
        measured("qkv", graft=WENT_WELL_AGAIN, difference=replace(ONE_BIT, max_ulp=1), again="recorded"),
        "too little to tell",
        id="one bit, which a race may be",
    ),
    pytest.param(measured("qkv", graft=WENT_WELL_AGAIN), "rare race, or memory", id="not caught in the act"),
    pytest.param(measured("qkv", graft=Graft((), "other", "recorded")), "nothing that was", id="a third one"),
    pytest.param(
        measured("act", difference=ONE_BIT), "nothing that was", id="one bit off, always, is no arithmetic"
    ),
    pytest.param(
        measured("qkv", weights=(replace(FLIPPED_WEIGHT, bit=None, elements=9),), graft=None),
        "is not the recorded tensor",
        id="a weight, more than a bit",
    ),
]


@pytest.mark.parametrize(("findings", "why"), OPEN)
def test_what_fits_nothing_is_unknown_and_says_why(findings, why):
    diagnosis = classify(findings)
    assert (diagnosis.cause, diagnosis.rule) == ("unknown", "nothing fits")
    assert why in diagnosis.summary


def test_an_op_that_follows_its_batch_is_called_by_the_fields_word():
    said = classify(CASES["batch-variant op"]).summary
    assert said == "2.qkv is not batch-invariant: a row has other bits with more rows behind it"


@pytest.mark.parametrize(
    ("op", "changes"),
    [
        pytest.param("qkv", {"dtype": "float32"}, id="float32 is portable"),
        pytest.param("embedding", {}, id="a copy is the same in any precision"),
        pytest.param(
            "qkv", {"manifest": (told("engine.device.name", "A", "B"),)}, id="the same architecture"
        ),
    ],
)
def test_another_device_is_no_excuse(op, changes):
    low = replace(CASES["another device in low precision"], first=at(op), field=FIELDS[op])
    assert classify(replace(low, **changes)).cause == "unknown"


@pytest.mark.parametrize("again", [True, False])
def test_what_a_replay_could_add_is_told_only_where_one_could(again):
    found = classify(traces_alone("attn"), can_run_again=again)
    assert found.rule == "nothing fits"
    assert ("needed" in {each.kind for each in found.evidence}) is again
