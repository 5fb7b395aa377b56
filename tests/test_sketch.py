"""Runs whose bits cannot be equal, compared by sketches from the command line."""

import pytest

from tests.command import detrec, soon
from tests.tui.terminal import Terminal

SERVE = """
model: builtin:qwen2-tiny
requests:
  - {prompt: "the first request", sampling: {max_tokens: 4, temperature: 0}}
  - {prompt: "another one that is longer", sampling: {max_tokens: 6, seed: 7}}
record: {sketch: true}
"""
LOW = ("--set", "engine.dtype=bfloat16", "--mode", "tokens", "--no-diagnose")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sketch")
    (folder / "serve.yaml").write_text(SERVE)
    assert soon("record", folder / "serve.yaml", "-o", folder / "run.zarr").code == 0
    return folder / "run.zarr"


def test_another_dtype_is_close_and_its_bits_diverge(run, tmp_path):
    by_bits = soon("replay", run, *LOW, "--json")
    assert by_bits.code == 1
    assert by_bits.json()["verdict"] == "diverged"
    assert by_bits.json()["tolerance"]["verdict"] == "close"
    close = soon("replay", run, *LOW, "--by", "sketch", "-o", tmp_path / "low.zarr")
    assert close.code == 0
    assert close.stdout.startswith("close: ")
    assert "units of bfloat16 rounding apart" in close.stdout
    apart = detrec("diff", run, tmp_path / "low.zarr", "--by", "sketch", "--json").json()
    assert (apart["verdict"], apart["tolerance"]["dtype"]) == ("close", "bfloat16")


def test_a_wrong_rotation_is_named_across_dtypes(run):
    wrong = soon("replay", run, *LOW, "--by", "sketch", "--fault", "wrong_rope_base:percent=1000", "--json")
    assert wrong.code == 1
    first = wrong.json()["tolerance"]["first"]
    assert (first["layer"], first["op"]) == (0, "rope_q")
    assert first["units"] > first["allowed"]


def test_equal_bits_are_identical_however_they_are_compared(run):
    same = soon("replay", run, "--by", "sketch", "--json")
    assert (same.code, same.json()["verdict"]) == (0, "identical")


def test_a_trace_without_sketches_says_how_to_have_them(run, tmp_path):
    serve = run.parent / "serve.yaml"
    assert soon("record", serve, "-o", tmp_path / "bare.zarr", "--set", "record.sketch=false").code == 0
    bare = detrec("diff", run, tmp_path / "bare.zarr", "--by", "sketch")
    assert bare.code == 2
    assert "has no sketches" in bare.stderr
    assert "record.sketch=true" in bare.stderr
    assert detrec("diff", run, tmp_path / "bare.zarr").code == 0


def test_replay_by_sketch_needs_them_recorded(run, tmp_path):
    serve = run.parent / "serve.yaml"
    assert soon("record", serve, "-o", tmp_path / "bare.zarr", "--set", "record.sketch=false").code == 0
    refused = soon("replay", tmp_path / "bare.zarr", "--by", "sketch")
    assert refused.code == 2
    assert "has no sketches" in refused.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(["--set", "record.sketch=false"], "the replay keeps none", id="none kept"),
        pytest.param(["--repeat", "2"], "counts replays whose bits diverge", id="a hunt"),
    ],
)
def test_what_cannot_be_decided_by_sketches_is_refused(run, args, said):
    refused = soon("replay", run, "--by", "sketch", *args)
    assert refused.code == 2
    assert said in refused.stderr


def test_runs_that_are_close_open_no_explorer(run):
    with Terminal("replay", run, *LOW, "--by", "sketch") as terminal:
        assert terminal.end() == 0
    assert b"close: " in terminal.drawn
    assert b"\x1b[?1049h" not in terminal.drawn


def test_an_unknown_way_to_decide_is_refused(run):
    refused = detrec("diff", run, run, "--by", "feeling")
    assert refused.code == 2
    assert "expected bits or sketch" in refused.stderr
