"""Every variant of every Triton kernel compiles for Ampere, Hopper and Blackwell; no GPU is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "kernels" / "gpu"
KERNELS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "portable"))
LAUNCHES = sorted(path.stem for path in (Path(__file__).parent / "launches").glob("*.py"))


@pytest.mark.parametrize("file", LAUNCHES)
def test_every_variant_compiles(file):
    command = [sys.executable, "-m", "tests.kernels.gpu.ahead", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"sm_80", "sm_90", "sm_100"}


def test_no_kernel_file_is_left_out():
    assert LAUNCHES == KERNELS
