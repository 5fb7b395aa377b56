"""Fixtures shared by all tests, and where Triton's kernels run."""

import os
from pathlib import Path

import pytest

from tests.command import detrec

# before anything imports Triton: without a GPU its kernels run in its interpreter
if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root serve.yaml, recorded once: to be read, and copied before it is changed."""
    path = tmp_path_factory.mktemp("traces") / "run.zarr"
    recorded = detrec("record", "serve.yaml", "-o", path)
    assert recorded.code == 0, recorded.stderr
    return path
