"""However a recording ends, and whatever happens to its files: what was committed holds, the rest is said."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from detrec.errors import TraceCorrupt, TraceIncomplete
from detrec.recorder.reader import TraceReader
from detrec.recorder.verify import verify
from detrec.replayer.replay import replay
from tests.command import ROOT, detrec, soon

TOKENS, REQUESTS = 150, 12
# too few blocks for eight: somebody is preempted, so that runs are cut at such steps too
WORKLOAD = {
    "model": "builtin:qwen2-tiny",
    "engine": {"max_model_len": 256, "max_num_seqs": 8, "num_gpu_blocks_override": 50},
    "requests": [
        {
            "id": f"r{index}",
            "prompt": f"request number {index}",
            "sampling": {"temperature": 0.8, "seed": index, "max_tokens": TOKENS, "ignore_eos": True},
        }
        for index in range(REQUESTS)
    ],
}


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("workload") / "serve.yaml"
    path.write_text(json.dumps(WORKLOAD))
    return path


@pytest.fixture(scope="module")
def whole(serve: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workload recorded to its end; kernels are compiled after it."""
    path = tmp_path_factory.mktemp("whole") / "run.zarr"
    assert soon("record", serve, "-o", path).code == 0
    return path


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell that runs tests in the background has SIGINT ignored, by what they start too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(serve: Path, path: Path, last: int) -> subprocess.Popen[str]:
    """A recorder that waits after step `last`."""
    mortal = [sys.executable, "-m", "tests.mortal", str(last), "wait"]
    command = [*mortal, "record", str(serve), "-o", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, steps: int, recorder: subprocess.Popen[str]) -> None:
    """Until `steps` steps are committed at `path`, or the recorder is done."""
    while recorder.poll() is None:
        if path.exists() and TraceReader(path).n_steps >= steps:
            return
        time.sleep(0.003)


def killed(serve: Path, path: Path, last: int, seconds: float) -> int:
    """The exit code of a recorder killed `seconds` after it wrote step `last`; -1 is before the first."""
    return soon("record", serve, "-o", path, dies=(last, seconds)).code


def test_a_recorder_killed_at_any_moment_leaves_a_trace_that_replays(serve, whole, tmp_path):
    total, draw = TraceReader(whole).n_steps, random.Random(20)
    moments = [(draw.randrange(total), draw.uniform(0, 0.1)) for _ in range(18)] + [(-1, 0.0), (-1, 0.02)]
    paths = [tmp_path / f"{number}.zarr" for number in range(len(moments))]
    codes = [killed(serve, path, *at) for path, at in zip(paths, moments, strict=True)]
    committed: list[int] = []
    for path in paths:
        trace = TraceReader(path)
        assert trace.status == "recording" or (trace.status, trace.n_steps) == ("complete", total), path
        assert verify(path).steps == trace.n_steps
        if not trace.n_steps:
            with pytest.raises(TraceIncomplete, match="no step was committed"):
                replay(str(path))
            continue
        prints, right = (each.fingerprints(0, trace.n_rows) for each in (trace, TraceReader(whole)))
        assert (prints == right).all()
        committed.append(trace.n_steps)
        if trace.n_steps in committed[:-1]:
            # it is what has been replayed
            continue
        comparison = replay(str(path)).comparison
        assert comparison.verdict == "identical", f"{path}: detrec replay {path}"
        assert comparison.rows.matched + comparison.rows.superseded // 2 == trace.n_rows
        assert (comparison.counts.missing, comparison.rows.beyond) == (0, 0)
    assert sum(code in (-signal.SIGKILL, -signal.SIGALRM) for code in codes) > len(paths) // 2
    # they were killed all along the run, not all at one end
    assert sum(steps < total for steps in committed) > len(paths) // 3
    assert len(set(committed)) >= 3


def test_a_killed_recording_is_the_beginning_of_the_whole_one(serve, whole, tmp_path):
    path = tmp_path / "run.zarr"
    # longer than a recorder waits until it commits
    killed(serve, path, 70, 0.0)
    cut, trace = TraceReader(path), TraceReader(whole)
    assert 0 < cut.n_steps < trace.n_steps
    assert list(cut.steps()) == [step for step in trace.steps() if step.index < cut.n_steps]
    assert (cut.fingerprints(0, cut.n_rows) == trace.fingerprints(0, cut.n_rows)).all()
    info = detrec("info", path)
    assert (info.code, f"recording, {cut.n_steps} steps" in info.stdout) == (0, True)
    free = detrec("replay", path, "--mode", "free", "--set", "engine.max_num_seqs=3")
    assert (free.code, free.stdout.startswith("identical")) == (0, True), free


def test_nothing_committed_is_an_error_and_no_verdict(serve, tmp_path, whole):
    path = tmp_path / "run.zarr"
    killed(serve, path, -1, 0.0)
    done = detrec("replay", path)
    assert (done.code, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error == f"detrec: error: {path}: no step was committed, so there is nothing to replay (recording)"
    assert hint == "hint: record it again"


def test_ctrl_c_ends_a_recording_with_every_step_it_ran(serve, whole, tmp_path, ctrl_c_is_heard):
    path, last = tmp_path / "run.zarr", TraceReader(whole).n_steps - 2
    with start(serve, path, last) as recorder:
        wait_for(path, 30, recorder)
        recorder.send_signal(signal.SIGINT)
        stdout, stderr = recorder.communicate()
    assert (recorder.returncode, stdout, stderr) == (2, "", "detrec: interrupted\n")
    trace = TraceReader(path)
    assert (trace.status, trace.reason) == ("failed", "KeyboardInterrupt")
    assert 30 <= trace.n_steps < TraceReader(whole).n_steps
    assert verify(path).status == "failed"
    done = detrec("replay", path)
    assert (done.code, done.stdout.startswith("identical")) == (0, True), done


def test_a_flipped_byte_in_any_file_is_found(run, tmp_path):
    path, draw = tmp_path / "run.zarr", random.Random(6)
    shutil.copytree(run, path)
    assert verify(path).status == "complete"
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    assert len(files) > 60
    for file in files:
        data = file.read_bytes()
        for at in {0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(4))}:
            changed = bytearray(data)
            changed[at] ^= 1 << draw.randrange(8)
            file.write_bytes(changed)
            with pytest.raises(TraceCorrupt, match=file.relative_to(path).as_posix()):
                verify(path)
        file.write_bytes(data)
    assert verify(path).status == "complete"


@pytest.mark.parametrize("command", ["verify", "replay", "info"])
def test_a_flipped_byte_is_one_line_and_a_hint(run, tmp_path, command):
    path = tmp_path / "run.zarr"
    shutil.copytree(run, path)
    file = path / "events" / "kind" / "c" / "0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    done = detrec(command, path)
    assert (done.code, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"detrec: error: {path}: events/kind/c/0: its bytes are not those")
    assert hint.startswith("hint: ")


def test_verify_names_all_that_is_wrong(run, tmp_path):
    path = tmp_path / "run.zarr"
    shutil.copytree(run, path)
    for name in ("events/kind/c/0", "rows/token/c/0", "steps/seconds/c/0"):
        (path / name).unlink()
    done = detrec("verify", path)
    *others, error, hint = done.stderr.splitlines()
    assert (done.code, done.stdout) == (2, "")
    assert others == [f"{path}: {name}: is missing" for name in ("rows/token/c/0", "steps/seconds/c/0")]
    assert error == f"detrec: error: {path}: events/kind/c/0: is missing (and 2 more)"
    assert hint == "hint: record it again"


def test_a_deleted_chunk_of_any_array_is_found(run, tmp_path):
    path = tmp_path / "run.zarr"
    shutil.copytree(run, path)
    arrays = sorted({file.parent for file in path.rglob("zarr.json") if (file.parent / "c").is_dir()})
    assert len(arrays) > 40
    for array in arrays:
        chunk = next(file for file in (array / "c").rglob("*") if file.is_file())
        chunk.rename(tmp_path / "aside")
        with pytest.raises(TraceCorrupt, match=f"{chunk.relative_to(path).as_posix()}: is missing"):
            verify(path)
        (tmp_path / "aside").rename(chunk)


OUTPUTS = [
    pytest.param("none/run.zarr", "is not a directory", id="no parent"),
    pytest.param("file/run.zarr", "is not a directory", id="parent is a file"),
    pytest.param("file", "exists already", id="a file"),
    pytest.param("x" * 300, "File name too long", id="a name too long"),
    pytest.param("", "the path of a trace is empty", id="no name"),
]


@pytest.mark.parametrize(("output", "message"), OUTPUTS)
def test_a_place_that_cannot_hold_a_trace_is_refused(serve, tmp_path, output, message):
    (tmp_path / "file").write_text("mine")
    done = detrec("record", serve, "-o", tmp_path / output if output else "")
    assert (done.code, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("detrec: error: ")
    assert message in error
    assert hint.startswith("hint: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# what is printed reaches a closed or full stdout only when it is flushed
BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_result_that_cannot_be_printed_is_no_verdict(run):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "detrec", "replay", str(run)]
        done = subprocess.run(
            command, cwd=ROOT, env=BUFFERED, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error == "detrec: error: standard output cannot be written: No space left on device"
    assert hint.startswith("hint: ")


def test_a_reader_that_left_early_does_not_change_the_verdict(run):
    command = [sys.executable, "-m", "detrec", "replay", str(run)]
    with subprocess.Popen(
        command, cwd=ROOT, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == ""
    assert done.returncode == 0


LOSE_CTRL_C = """
class Callback:
    def __del__(self):
        raise KeyboardInterrupt
Callback()
"""
CRASH = "raise RuntimeError('stumbled')"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(LOSE_CTRL_C + "import time; time.sleep(300)", "detrec: interrupted\n", id="goes on"),
        pytest.param(LOSE_CTRL_C + CRASH, "detrec: interrupted\n", id="stumbles"),
        pytest.param(CRASH, "RuntimeError: stumbled\n", id="a crash of its own"),
    ],
)
def test_ctrl_c_that_a_library_swallowed_is_heard_and_a_crash_is_no_verdict(body, expected, ctrl_c_is_heard):
    program = "from detrec import cli, main\ndef app(**options):\n" + "".join(
        f"    {line}\n" for line in body.splitlines()
    )
    program += "cli.app = app\nmain.main()\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.endswith(expected)
    assert ("Traceback" in done.stderr) is (body == CRASH)
