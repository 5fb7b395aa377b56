"""Fixtures shared by all tests, where Triton's kernels run, and what a user's shell must not change."""

import os
from pathlib import Path

import pytest

from tests.command import detrec

# before anything imports Triton: without a GPU its kernels run in its interpreter
if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# how wide and how coloured a terminal is decides what is printed, whether or not there is one
for name in ("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES", "NO_COLOR", "PY_COLORS"):
    os.environ.pop(name, None)

pytest_plugins = ["tests.failures"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root serve.yaml, recorded once: to be read, and copied before it is changed."""
    path = tmp_path_factory.mktemp("traces") / "run.zarr"
    recorded = detrec("record", "serve.yaml", "-o", path)
    assert recorded.code == 0, recorded.stderr
    return path
