"""What a report says of the cause, to a reader and to a program."""

import json

from detrec.replayer.diagnosis import Diagnosis, Evidence
from detrec.report import to_json, to_text
from tests.detrec.compared import diverged

DIAGNOSIS = Diagnosis(
    "kernel-choice",
    "another kernel",
    "another kernel ran 1.attn",
    (
        Evidence(
            "kernel", "recorded kernel, replayed split_k", {"recorded": "kernel", "replayed": "split_k"}
        ),
        Evidence("graft", "all inputs are equal", {"unequal_inputs": []}),
        Evidence("repeat", "\x1b[31m" + "x" * 500, {"times": 8}),
    ),
)


def test_a_cause_stands_under_the_verdict_with_what_is_not_said_below():
    plain, found = (to_text(diverged(), seconds=0.5, diagnosis=d).splitlines() for d in (None, DIAGNOSIS))
    assert found[:1] + found[4:] == plain
    assert found[1:3] == [
        "  cause      kernel-choice: another kernel ran 1.attn",
        "  graft      all inputs are equal",
    ]
    assert found[3].startswith(r"  repeat     \x1b[31mxxx")
    assert len(found[3]) < 200


def test_the_json_of_a_cause():
    data = to_json(diverged(), trace="a", replayed="b", seconds=0.5, diagnosis=DIAGNOSIS)
    assert json.loads(json.dumps(data)) == data
    assert list(data["cause"]) == ["class", "summary", "rule", "evidence"]
    assert (data["cause"]["class"], data["cause"]["rule"]) == ("kernel-choice", "another kernel")
    assert [list(evidence) for evidence in data["cause"]["evidence"]] == [["kind", "text", "facts"]] * 3
    assert data | {"cause": None} == to_json(diverged(), trace="a", replayed="b", seconds=0.5)
