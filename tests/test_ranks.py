"""Several ranks as a user has them: recorded, replayed on as many and on fewer, refused, and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detrec.engines.builtin.ranks import LIMIT_S
from detrec.recorder.reader import TraceReader
from tests.command import ROOT, detrec, soon

TP = "engine.tensor_parallel_size"
INVARIANT = "engine.reduction=tp_invariant"


def test_a_recording_on_two_ranks_is_replayed_on_two(tmp_path):
    run = tmp_path / "two.zarr"
    recorded = soon("record", "serve.yaml", "--set", f"{TP}=2", "-o", run)
    assert recorded.code == 0, recorded.stderr
    assert TraceReader(run).ranks == 2
    replayed = soon("replay", run)
    assert replayed.code == 0, replayed.stdout + replayed.stderr
    assert replayed.stdout.startswith("identical")


def test_a_recording_on_four_ranks_is_replayed_on_one_and_two(tmp_path):
    run = tmp_path / "four.zarr"
    recorded = soon("record", "serve.yaml", "--set", f"{TP}=4", "--set", INVARIANT, "-o", run)
    assert recorded.code == 0, recorded.stderr
    for ranks in (1, 2):
        replayed = soon("replay", run, "--set", f"{TP}={ranks}")
        assert replayed.code == 0, replayed.stdout + replayed.stderr
        assert replayed.stdout.startswith("identical")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((f"{TP}=3",), "3 ranks cannot share this model: 4 attention heads do not divide by 3"),
        ((f"{TP}=9",), "tensor_parallel_size: expected at most 8, got 9"),
        ((f"{TP}=2", "engine.device=gpu"), "2 ranks need a GPU each, this machine has 0 to use"),
    ],
)
@pytest.mark.skipif(os.path.exists("/dev/nvidia1"), reason="there are two GPUs")
def test_ranks_that_cannot_be_had_are_refused_before_anything_is_written(settings, message, tmp_path):
    sets = [word for setting in settings for word in ("--set", setting)]
    refused = soon("record", "serve.yaml", *sets, "-o", tmp_path / "run.zarr")
    assert refused.code == 2
    assert message in refused.stderr
    assert "hint: " in refused.stderr
    assert not (tmp_path / "run.zarr").exists()


LONG = """
model: builtin:qwen2-tiny
engine: {tensor_parallel_size: 2, max_model_len: 4096}
requests:
  - {prompt: to and fro, sampling: {temperature: 0, max_tokens: 4000, ignore_eos: true}}
"""


@pytest.mark.parametrize("killed", ["a rank", "rank 0 by Ctrl-C"])
def test_a_rank_that_is_killed_ends_the_command_and_leaves_a_trace(killed, tmp_path):
    serve, run = tmp_path / "serve.yaml", tmp_path / "run.zarr"
    serve.write_text(LONG)
    command = [sys.executable, "-m", "detrec", "record", str(serve), "-o", str(run)]
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        _wait_for_steps(run)
        (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if killed == "a rank":
            os.kill(int(other), signal.SIGKILL)
        else:
            process.send_signal(signal.SIGINT)
        # at once, and not when rank 0 has waited for as long as it waits for a rank
        _, stderr = process.communicate(timeout=LIMIT_S / 2)
    assert process.returncode == 2
    told = f"rank 1 (process {other}) died" if killed == "a rank" else "detrec: interrupted"
    assert stderr.count(told) == 1
    assert "Traceback" not in stderr
    assert not Path(f"/proc/{other}").exists()
    verified = detrec("verify", run)
    assert verified.code == 0, verified.stderr
    assert TraceReader(run).n_steps > 0


def _wait_for_steps(run: Path) -> None:
    late = time.monotonic() + 100
    while time.monotonic() < late:
        if (run / "zarr.json").exists() and TraceReader(run).n_steps:
            return
        time.sleep(0.1)
    raise AssertionError(f"{run}: no step was committed")
