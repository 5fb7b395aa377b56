"""What the commands print: stdout is the result alone, and text and --json say the same."""

import json
import re

import pytest

from detrec.errors import ConfigError
from detrec.recorder.reader import TraceReader
from tests.command import ROOT, detrec


@pytest.fixture(scope="module")
def other(run, tmp_path_factory):
    """The root serve.yaml with a fault in it."""
    path = tmp_path_factory.mktemp("printed") / "other.zarr"
    assert detrec("record", "serve.yaml", "-o", path, "--fault", "split_k_by_batch").code == 0
    return path


def test_record_prints_what_was_recorded_and_every_text(run, tmp_path):
    done = detrec("record", "serve.yaml", "-o", tmp_path / "run.zarr")
    trace = TraceReader(run)
    assert (done.code, done.stderr) == (0, "")
    first, *texts = done.stdout.splitlines()
    size = f"{trace.n_steps} steps, {trace.n_rows} rows x {len(trace.ops)} ops, {trace.n_samples} tokens"
    assert re.fullmatch(rf"recorded {tmp_path}/run\.zarr: {size} in \d+\.\d\d s", first)
    assert [line.split()[0] for line in texts] == [request.id for request in trace.requests]
    assert all(line.isascii() and len(line) < 90 for line in texts)


def test_info_says_the_same_facts_twice(run):
    facts, text = detrec("info", run, "--json").json(), detrec("info", run).stdout
    assert list(facts) == [
        *("trace", "uuid", "status", "reason", "steps", "rows", "samples", "ops", "ranks"),
        *("manifest", "requests", "events"),
    ]
    trace = TraceReader(run)
    assert (facts["trace"], facts["uuid"], facts["status"]) == (str(run), trace.uuid, "complete")
    assert (facts["steps"], facts["rows"], facts["samples"]) == (51, trace.n_rows, trace.n_samples)
    assert text.startswith(f"{run}: complete, 51 steps, {trace.n_rows} rows x {len(trace.ops)} ops, ")
    manifest = facts["manifest"]
    # settings are broken into lines
    flat = " ".join(text.split())
    for key, value in manifest["config"]["engine"].items():
        said = value if isinstance(value, str) else json.dumps(value)
        assert value is None or f"{key} {said}" in flat
    assert f"{manifest['config']['model']} ({manifest['engine']['model_digest']})" in text
    assert f"{facts['events']['preempted']} preempted, {facts['events']['hit']} prefix-cache hits" in text
    assert len(facts["requests"]) == 8
    *_, last = text.splitlines()
    assert list(facts["requests"][-1].values()) == ["min-p", 12, 50, 16, 23, 1.0]
    assert last.split() == ["min-p", "12", "50", "16", "1", "23"]


def test_verify_prints_one_line(run):
    done = detrec("verify", run)
    files = sum(path.is_file() for path in run.rglob("*"))
    expected = (
        f"{run}: {files} files hold what was written: complete; 51 steps, {TraceReader(run).n_rows} rows\n"
    )
    assert (done.code, done.stdout, done.stderr) == (0, expected, "")


def test_diff_says_the_same_facts_twice(run, other):
    done, text = detrec("diff", run, other, "--json"), detrec("diff", run, other)
    data, (verdict, *details) = done.json(), text.stdout.splitlines()
    assert done.stdout.count("\n") == 1
    assert (done.code, text.code, done.stderr, text.stderr) == (1, 1, "", "")
    assert list(data) == [
        *("verdict", "first", "counts", "rows", "kernels", "cause", "tokens"),
        *("manifest_diff", "schedule_diff", "trace", "replayed", "seconds"),
    ]
    assert (data["trace"], data["replayed"]) == (str(run), str(other))
    first, counts = data["first"], data["counts"]
    assert list(first) == ["step", "request", "position", "layer", "op", "rank", "recorded", "replayed"]
    assert verdict == (
        f"diverged: first at step {first['step']}, request {first['request']}, "
        f"position {first['position']}, layer {first['layer']}, op {first['op']}"
    )
    labels = {line[2:11].strip(): line[13:] for line in details}
    assert labels["bits"] == f"recorded {first['recorded']}, replayed {first['replayed']}"
    assert labels["cells"] == (
        f"{counts['compared']:,} compared: {counts['equal']:,} equal, {counts['born']:,} born, "
        f"{counts['inherited']:,} inherited; {counts['missing']:,} missing"
    )
    assert counts["compared"] == counts["equal"] + counts["born"] + counts["inherited"]
    assert labels["kernel"].startswith("recorded cpu.matmul ")


def test_doctor_says_the_same_facts_twice():
    done, text = detrec("doctor", "--json", NUMBA_NUM_THREADS="1"), detrec("doctor", NUMBA_NUM_THREADS="1")
    facts = done.json()
    assert (done.code, text.code, facts["healthy"]) == (0, 0, True)
    known = {"healthy", "detrec", "python", "machine", "cpu", "threads", "frameworks", "packages"}
    assert {*known, "environment", "self_tests"} <= set(facts)
    assert facts["environment"] == {"NUMBA_NUM_THREADS": "1"}
    assert "  environment NUMBA_NUM_THREADS=1" in text.stdout.splitlines()
    for name, version in facts["packages"].items():
        assert (f"{name} {version}" in text.stdout) is (version is not None)
    assert facts["self_tests"]["matmul_is_batch_invariant"] is True
    assert text.stdout.startswith(f"healthy: detrec {facts['detrec']}, Python {facts['python']}, ")
    assert text.stdout.count(": yes") == len(facts["self_tests"])


def test_faults_lists_what_can_be_armed_as_it_is_printed_and_what_cannot():
    from detrec.engines.builtin.model import op_names
    from detrec.engines.builtin.seeded import SeededCheckpoint
    from detrec.engines.faults import FAULTS, arm
    from detrec.engines.faults.needed import NEEDED

    text, rows = detrec("faults").stdout.splitlines(), detrec("faults", "--json").json()
    assert [row["name"] for row in rows] == [*FAULTS, *NEEDED]
    assert len(text) == 4 * len(rows)
    ops = tuple(op_names(SeededCheckpoint("qwen2-tiny").config))
    for row, block in zip(rows, zip(*(text[at::4] for at in range(4)), strict=True), strict=True):
        assert [*row] == ["name", "class", "summary", "parameters", "source", "expects", "needs"]
        line, *about = block
        verdict = f"{row['class']}; {row['source']}"
        alone = "; with rank=R on that rank alone" if "rank" in row["parameters"] else ""
        lines = row["summary"] + alone, verdict, f"expects: {row['expects']}"
        assert about == [f"    {part}" for part in lines]
        if row["needs"]:
            assert line == f"{row['name']}: needs {row['needs']}"
            continue
        fault = arm(line, ops, lambda text: None)
        assert type(fault) is FAULTS[row["name"]]
        assert fault.from_step == row["parameters"]["step"]
        assert row["parameters"].get("rank", 0) is (None if FAULTS[row["name"]].one_rank else 0)
        with pytest.raises(ConfigError):
            arm(line + ",x=1", ops, lambda text: None)


def test_the_help_of_every_command_names_its_options_and_the_readme_the_command():
    options = {
        "record": ["--output", "-o", "--set", "--level", "--fault", "--overwrite"],
        "replay": ["--output", "-o", "--set", "--mode", "--fault", "--overwrite", "--json"],
        "diff": ["--json"],
        "report": ["--output", "-o", "--at", "--tensors", "--cause", "--overwrite", "--json"],
        "info": ["--json"],
        "verify": [],
        "faults": ["--json"],
        "doctor": ["--json"],
    }
    whole, readme = detrec("--help").stdout, (ROOT / "README.md").read_text()
    for command, names in options.items():
        assert command in whole
        assert f"detrec {command}" in readme
        done = detrec(command, "--help", COLUMNS="200")
        assert (done.code, "Usage" in done.stdout) == (0, True)
        for name in names:
            assert name in done.stdout, f"detrec {command} --help"
