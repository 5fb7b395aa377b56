"""Settings of two runs, key by key."""

from dataclasses import replace

import pytest

from detrec.config import SamplingParams
from detrec.replayer.manifest_diff import ManifestDifference, differences, manifest_diff
from tests.replayer.fakes import fake_trace

MANIFEST = {"config": {"engine": {"block_size": 16, "deterministic": True}}, "environment": {"cpu": "a"}}


@pytest.mark.parametrize(
    ("recorded", "replayed", "expected"),
    [
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", 1, 2)], id="nested"),
        pytest.param({"a": 1}, {}, [("a", 1, None)], id="absent"),
        pytest.param({}, {"a": {"b": 1}}, [("a", None, {"b": 1})], id="absent there"),
        pytest.param({"a": [1, 2]}, {"a": [1, 3]}, [("a[1]", 2, 3)], id="element"),
        pytest.param({"a": [1]}, {"a": [1, 3]}, [("a", [1], [1, 3])], id="lists of two lengths"),
        pytest.param({"a": (1, 2)}, {"a": [1, 2]}, [], id="tuple and list"),
        pytest.param({"a": True}, {"a": 1}, [("a", True, 1)], id="true and one"),
        pytest.param({"a": "xy"}, {"a": "xz"}, [("a", "xy", "xz")], id="text"),
        pytest.param({"b": 1, "a": 1}, {"a": 2, "b": 2}, [("a", 1, 2), ("b", 1, 2)], id="in key order"),
    ],
)
def test_values_are_compared_by_key(recorded, replayed, expected):
    assert differences(recorded, replayed) == [ManifestDifference(*one) for one in expected]


def test_equal_traces_have_no_difference():
    assert manifest_diff(fake_trace([], manifest=MANIFEST), fake_trace([], manifest=MANIFEST)) == ()


def test_requests_and_ranks_are_settings_too():
    recorded, replayed = fake_trace([], manifest=MANIFEST), fake_trace([], manifest=MANIFEST, ranks=2)
    changed = replace(
        replayed.requests[0], prompt=(1, 9, 8), arrival=3, sampling=SamplingParams(seed=42, temperature=0.5)
    )
    replayed.requests = (changed, *replayed.requests[1:])
    assert manifest_diff(recorded, replayed) == (
        ManifestDifference("ranks", 1, 2),
        ManifestDifference("requests.r0.arrival", 0, 3),
        ManifestDifference("requests.r0.prompt.length", 2, 3),
        ManifestDifference("requests.r0.prompt[1]", 2, 9),
        ManifestDifference("requests.r0.sampling.temperature", 1.0, 0.5),
    )


def test_a_request_of_one_run_only_is_a_difference():
    found = manifest_diff(fake_trace([]), fake_trace([], ids=("r0", "r1")))
    assert found == (ManifestDifference("requests.ids", ["r0", "r1", "r2"], ["r0", "r1"]),)
