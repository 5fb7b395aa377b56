"""What can change bits outside the engine: detrec, Python, the CPU, the libraries, the environment.

No times, no host names, no paths: two recordings of one run on one machine say the same.
"""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from detrec.kernels import KERNELS_VERSION

_PACKAGES = (
    "fastdeploy-gpu",
    "fastdeploy",
    "numpy",
    "numba",
    "llvmlite",
    "paddlepaddle",
    "paddlepaddle-gpu",
    "torch",
    "transformers",
    "triton",
)
_VARIABLES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_NUM_THREADS")
_PREFIXES = ("FD_", "FLAGS_")


def environment_manifest(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """JSON-ready. Packages that are not installed and variables that are not set are left out."""
    variables = {
        name: environ[name] for name in sorted(environ) if _moves_bits(name) and not _is_path(environ[name])
    }
    return {
        "detrec": _installed("detrec"),
        "kernels_version": KERNELS_VERSION,
        "python": platform.python_version(),
        "platform": platform.system(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "packages": {name: found for name in _PACKAGES if (found := _installed(name))},
        "environment": variables,
    }


def _moves_bits(name: str) -> bool:
    return name in _VARIABLES or name.startswith(_PREFIXES)


def _is_path(value: str) -> bool:
    return os.sep in value


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    """The model's name as Linux gives it, elsewhere what platform knows."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor()
