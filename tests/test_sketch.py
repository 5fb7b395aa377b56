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


def test_the_cause_of_bits_is_not_told_as_that_of_what_is_beyond_tolerance(run, tmp_path):
    """bfloat16 changes every bit from the embedding on, a wrong rotation what is beyond rounding."""
    kept = tmp_path / "wrong.zarr"
    wrong = ("--set", "engine.dtype=bfloat16", "--mode", "tokens", "--fault", "wrong_rope_base:percent=1000")
    lines = detrec("replay", run, *wrong, "--by", "sketch", "-o", kept).stdout.splitlines()
    assert "op rope_q" in lines[0]
    told = {line[2:11].strip(): line[13:] for line in lines[1:]}
    assert told["bits"].startswith("first differ at step 0, request ")
    assert told["bits"].endswith("op embedding")
    assert told["cause"].startswith("of the bits above, not of what is beyond tolerance: environment: ")
    assert list(told).index("sketch") < list(told).index("bits") < list(told).index("cause")
    data = detrec("diff", run, kept, "--by", "sketch", "--json").json()
    assert (data["first"]["op"], data["tolerance"]["first"]["op"]) == ("embedding", "rope_q")
    assert data["cause"]["of"] == "bits"
    assert "of" not in detrec("diff", run, kept, "--json").json()["cause"]


def test_a_cause_at_the_very_cell_beyond_tolerance_is_of_both(run):
    wrong = ("--fault", "wrong_rope_base:percent=1000", "--by", "sketch", "--json")
    data = detrec("replay", run, *wrong).json()
    assert data["tolerance"]["first"]["op"] == data["first"]["op"] == "rope_q"
    assert data["cause"]["class"] == "numerics"
    assert "of" not in data["cause"]


def test_what_is_close_needs_no_cause(run, tmp_path):
    low = (
        "--set",
        "engine.dtype=bfloat16",
        "--mode",
        "tokens",
        "--by",
        "sketch",
        "-o",
        tmp_path / "low.zarr",
    )
    close = detrec("replay", run, *low)
    assert close.stdout.startswith("close: ")
    assert "\n  cause " not in close.stdout
    data = detrec("diff", run, tmp_path / "low.zarr", "--by", "sketch", "--json").json()
    assert (data["verdict"], data["cause"]) == ("close", None)


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
