"""Every variant of every Triton kernel compiles for Hopper; for Ampere and Blackwell too, at one tile size.

No GPU is needed. `python -m tests.kernels.gpu.ahead FILE` compiles every size for all of them.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = {path.stem: path.read_text() for path in (ROOT / "kernels" / "gpu").glob("*.py")}
LAUNCHES = sorted(path.stem for path in (Path(__file__).parent / "launches").glob("*.py"))


@pytest.mark.parametrize("file", LAUNCHES)
def test_every_variant_compiles(file):
    command = [sys.executable, "-m", "tests.kernels.gpu.ahead", file, "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"sm_80", "sm_90", "sm_100"}


def test_no_kernel_file_is_left_out():
    for name, source in SOURCES.items():
        if " launch(" in source and name not in LAUNCHES:
            # part of a kernel whose launches reach it
            imported = f"detrec.kernels.gpu.{name} import", f"detrec.kernels.gpu import {name} "
            users = [user for user, text in SOURCES.items() if any(words in text for words in imported)]
            assert set(users) & set(LAUNCHES), f"{name}.py launches what nothing compiles"
