"""The manifest names what can change bits, and nothing that changes by itself."""

import json
import subprocess
import sys

import numpy as np

from detrec.kernels import KERNELS_VERSION
from detrec.recorder.manifest import environment_manifest


def test_it_is_json_and_says_the_same_twice() -> None:
    manifest = environment_manifest()
    assert json.loads(json.dumps(manifest)) == manifest == environment_manifest()


def test_it_names_versions_and_the_cpu() -> None:
    manifest = environment_manifest({})
    assert manifest["kernels_version"] == KERNELS_VERSION
    assert manifest["packages"]["numpy"] == np.__version__
    assert manifest["python"] == ".".join(map(str, sys.version_info[:3]))
    assert manifest["cpu"] or sys.platform != "linux"
    assert manifest["environment"] == {}


def test_only_variables_that_can_move_bits_are_kept_in_order_and_no_paths() -> None:
    environ = {
        "NUMBA_NUM_THREADS": "2",
        "FLAGS_cudnn_deterministic": "1",
        "FD_DETERMINISTIC_MODE": "1",
        "FD_LOG_DIR": "/var/log/fd",
        "HOME": "root",
        "NUMBA_CACHE_DIR": "cache",
    }
    kept = environment_manifest(environ)["environment"]
    assert list(kept.items()) == [
        ("FD_DETERMINISTIC_MODE", "1"),
        ("FLAGS_cudnn_deterministic", "1"),
        ("NUMBA_NUM_THREADS", "2"),
    ]


def test_it_imports_no_framework() -> None:
    script = (
        "import sys; from detrec.recorder.manifest import environment_manifest; environment_manifest();"
        "sys.exit(bool({'paddle', 'torch', 'numba', 'triton'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
