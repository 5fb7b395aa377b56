"""Why a replay diverged, as a user is told: in text, in --json, and from two traces alone."""

import json
import re

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.compare import compare
from detrec.replayer.diagnosis import CLASSES, Evidence
from detrec.replayer.explain import explain_traces
from detrec.replayer.replay import replay
from tests.command import ROOT, detrec, soon
from tests.engines.small import prompt, request

FAULT = "split_k_by_batch:step=5,op=2.gate_up"
SMALL_FAULT = "split_k_by_batch:step=1,op=2.gate_up"
REFERENCE = "run again with the recorded settings, it gives other bits here too"
LABELS = ("reference", "again", "weights", "graft", "repeat", "batch", "tensors")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two short requests, recorded as they are, with another matmul, and with seeds that drift."""
    requests = [
        request("greedy", prompt(1, 24), max_tokens=4),
        request("drawn", prompt(2, 9), temperature=1.0, seed=7, max_tokens=4),
    ]
    data = {"model": "builtin:qwen2-tiny", "engine": {"max_model_len": 64}, "requests": requests}
    paths = {
        name: str(tmp_path_factory.mktemp("small") / "run.zarr") for name in ("clean", "split", "drifted")
    }
    for path, fault in zip(paths.values(), ("", SMALL_FAULT, "seed_drift:step=1"), strict=True):
        record(serve_config(data), path, fault=fault)
    return paths


def diffed(recorded: str, replayed: str):
    """What `detrec diff` makes of two traces."""
    traces = TraceReader(recorded), TraceReader(replayed)
    return explain_traces(*traces, compare(*traces))


def test_a_replay_says_why_in_text_and_json_and_keeps_the_tensors(run, tmp_path):
    kept = tmp_path / "made" / "tensors"
    done = soon("replay", run, "--fault", FAULT, "--json", "--keep-tensors", kept)
    text = soon("replay", run, "--fault", FAULT)
    assert (done.code, text.code) == (1, 1)
    cause = done.json()["cause"]
    assert list(cause) == ["class", "summary", "rule", "evidence"]
    assert (cause["class"], cause["rule"]) == ("reduction-order", "batch-variant op")
    verdict, said, *lines = text.stdout.splitlines()
    assert verdict.startswith("diverged: first at step 5, ")
    assert said == f"  cause      {cause['class']}: {cause['summary']}"
    evidence = {each["kind"]: each["text"] for each in cause["evidence"]}
    assert tuple(kind for kind in evidence if kind != "kernel") == LABELS
    for label, line in zip(LABELS, lines, strict=False):
        # two runs: how often an op is repeated is a matter of time
        wanted = re.sub(r"run \d+ times", "run N times", evidence[label])
        assert re.sub(r"run \d+ times", "run N times", line) == f"  {label:<9}  {wanted}"
    assert f"  kernel     {evidence['kernel']}" in lines

    about = json.loads((kept / "README.json").read_text())
    assert {side["op"] for side in about.values()} == {"2.gate_up"}
    ours, theirs = (np.load(kept / f"{side}.output.npy") for side in ("recorded", "replayed"))
    differing = re.match(r"([\d,]+) of ([\d,]+) elements", evidence["tensors"])
    counts = tuple(int(number.replace(",", "")) for number in differing.groups())
    assert counts == (np.count_nonzero(ours.view(np.uint32) != theirs.view(np.uint32)), ours.size)


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        pytest.param("engine.dtype=bfloat16", "environment", id="another number format"),
        pytest.param("engine.deterministic=false", "reduction-order", id="the framework's matmul"),
        pytest.param("model=builtin:llama-tiny", "input", id="another model"),
    ],
)
def test_settings_that_change_bits_have_a_class_too(small, override, cause):
    done = replay(small["clean"], overrides=[override], diagnose=True)
    assert done.diagnosis.cause == cause


def test_what_is_identical_or_not_asked_about_has_no_cause(small):
    assert replay(small["clean"], diagnose=True).diagnosis is None
    done = replay(small["clean"], fault=SMALL_FAULT)
    assert (done.comparison.verdict, done.diagnosis) == ("diverged", None)


def test_a_recording_that_cannot_be_had_again_has_no_known_cause(small):
    found = replay(small["split"], diagnose=True).diagnosis
    assert (found.cause, found.rule) == ("unknown", "nothing fits")
    assert Evidence("reference", REFERENCE, {"reproduces": False}) in found.evidence


def test_two_traces_alone_tell_a_drifting_seed(small):
    found = diffed(small["clean"], small["drifted"])
    assert (found.cause, found.rule) == ("rng", "another seed or counter")
    assert {each.kind for each in found.evidence} >= {"draw", "schedule"}
    assert "needed" not in {each.kind for each in found.evidence}
    assert diffed(small["clean"], small["clean"]) is None


def test_two_traces_alone_say_what_it_would_take(small):
    found = diffed(small["clean"], small["split"])
    assert found.cause == "unknown"
    assert found.summary.startswith("another kernel ran 2.gate_up, ")
    (needed,) = (each.text for each in found.evidence if each.kind == "needed")
    text = detrec("diff", small["clean"], small["split"])
    assert f"  needed     {needed}" in text.stdout.splitlines()
    assert "detrec replay RUN" in needed


def test_replays_are_counted_and_the_first_that_diverged_is_kept(small, tmp_path):
    kept = tmp_path / "kept.zarr"
    done = detrec(
        "replay",
        small["clean"],
        "-o",
        kept,
        "--repeat",
        "2",
        "--json",
        "--fault",
        SMALL_FAULT,
        "--no-diagnose",
    )
    data = done.json()
    assert (done.code, data["cause"]) == (1, None)
    assert list(data)[-1] == "repeats"
    assert data["repeats"] == {
        "times": 2,
        "diverged": 2,
        "firsts": [{"replay": number, "first": data["first"]} for number in (1, 2)],
    }
    assert detrec("diff", small["clean"], kept, "--json").json()["first"] == data["first"]

    clean = soon("replay", small["clean"], "-o", kept, "--repeat", "2", "--overwrite")
    assert (clean.code, clean.stderr) == (0, "")
    assert clean.stdout.splitlines()[-1] == "  repeats    0 of 2 replays diverged"
    assert detrec("diff", small["clean"], kept).code == 0


REFUSED = [
    pytest.param(["--repeat", "0"], "--repeat", id="no replay"),
    pytest.param(["--repeat", "-1"], "--repeat", id="fewer than none"),
    pytest.param(["--repeat", "x"], "--repeat", id="a word"),
    pytest.param(["--keep-tensors", "serve.yaml"], "--keep-tensors serve.yaml: is a file", id="a file"),
    pytest.param(["--keep-tensors", "x", "--no-diagnose"], "without a diagnosis", id="nothing to keep"),
]


@pytest.mark.parametrize(("args", "problem"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_runs(small, args, problem):
    done = soon("replay", small["clean"], *args)
    assert (done.code, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert problem in error
    assert hint.startswith("hint: ")


def test_the_readme_has_every_class():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in CLASSES if f"| `{name}` |" not in readme] == []
