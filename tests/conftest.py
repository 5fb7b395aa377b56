"""Fixtures shared by all tests, and where Triton's kernels run."""

import os
from pathlib import Path

# before anything imports Triton: without a GPU its kernels run in its interpreter
if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"
