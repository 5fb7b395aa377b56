"""Several ranks as a user has them, each with a GPU: recorded, replayed on as many and on one, and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detrec.recorder.reader import TraceReader
from tests.command import ROOT, detrec

TP = "engine.tensor_parallel_size"
GPUS = [
    "--set=engine.device=gpu",
    "--set=engine.framework=torch",
    "--set=engine.dtype=bfloat16",
    f"--set={TP}=2",
]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not os.path.exists("/dev/nvidia1"), reason="needs two GPUs"),
]


def test_a_recording_on_two_gpus_is_replayed_on_two(tmp_path):
    run = tmp_path / "two.zarr"
    recorded = detrec("record", "serve.yaml", *GPUS, "-o", run)
    assert recorded.code == 0, recorded.stderr
    trace = TraceReader(run)
    assert trace.ranks == 2
    assert trace.column("steps/graph_bucket").any()
    replayed = detrec("replay", run)
    assert (replayed.code, replayed.stdout[:9]) == (0, "identical"), replayed.stdout + replayed.stderr


def test_a_recording_on_two_gpus_is_replayed_on_one(tmp_path):
    run = tmp_path / "two.zarr"
    recorded = detrec("record", "serve.yaml", *GPUS, "--set=engine.reduction=tp_invariant", "-o", run)
    assert recorded.code == 0, recorded.stderr
    replayed = detrec("replay", run, f"--set={TP}=1")
    assert (replayed.code, replayed.stdout[:9]) == (0, "identical"), replayed.stdout + replayed.stderr


LONG = """
model: builtin:qwen2-tiny
engine: {tensor_parallel_size: 2, max_model_len: 4096, device: gpu, framework: torch, dtype: bfloat16}
requests:
  - {prompt: to and fro, sampling: {temperature: 0, max_tokens: 4000, ignore_eos: true}}
"""


def test_a_rank_that_is_killed_ends_the_command_and_leaves_a_trace(tmp_path):
    serve, run = tmp_path / "serve.yaml", tmp_path / "run.zarr"
    serve.write_text(LONG)
    command = [sys.executable, "-m", "detrec", "record", str(serve), "-o", str(run)]
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        other = _rank_of(process.pid, run)
        begin = time.monotonic()
        os.kill(other, signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10
    assert process.returncode == 2
    assert f"rank 1 (process {other}) died" in stderr
    assert detrec("verify", run).code == 0


def _rank_of(pid: int, run: Path) -> int:
    """The process of rank 1, once the trace has some steps."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        if (run / "zarr.json").exists() and TraceReader(run).n_steps:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found = [
                child for child in children if b"other_rank" in Path(f"/proc/{child}/cmdline").read_bytes()
            ]
            return int(found[0])
        time.sleep(0.2)
    raise AssertionError("no step was recorded in two minutes")
