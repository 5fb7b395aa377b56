"""`detrec doctor`: what this machine can run, and whether its kernels keep their promise here."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "paddlepaddle",
    "paddlepaddle-gpu",
    "torch",
    "triton",
    "numba",
    "numpy",
    "zarr",
    "numcodecs",
    "tokenizers",
    "gguf",
)
VARIABLES = ("FD_DETERMINISTIC_MODE", "FD_DETERMINISTIC_SPLIT_KV_SIZE", "NUMBA_NUM_THREADS", "NUMBA_CPU_NAME")


def examine() -> dict[str, Any]:
    """Versions, environment and self-tests; `healthy` is false when nothing could be recorded here."""
    installed = {name: _version(name) for name in PACKAGES}
    frameworks = [
        name for name, package in (("paddle", "paddlepaddle"), ("torch", "torch")) if installed[package]
    ]
    tests = {"matmul_is_batch_invariant": _matmul_is_batch_invariant()}
    return {
        "healthy": bool(frameworks) and all(tests.values()),
        "detrec": _version("detrec"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "threads": os.cpu_count(),
        "frameworks": frameworks,
        "packages": installed,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "self_tests": tests,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    from detrec.recorder.manifest import environment_manifest

    return str(environment_manifest().get("cpu", ""))


def _matmul_is_batch_invariant() -> bool:
    """Rows of one batch against the same rows alone, bit for bit, with this machine's code."""
    import numpy as np

    from detrec.kernels.cpu.matmul import matmul
    from detrec.kernels.cpu.packed import pack_weight

    generator = np.random.default_rng(7)
    x = generator.standard_normal((33, 192), dtype=np.float32) * np.float32(10) ** (np.arange(192) % 7 - 3)
    x = np.ascontiguousarray(x, np.float32)
    weight = pack_weight(generator.standard_normal((130, 192), dtype=np.float32))
    together, alone = np.empty((33, 130), np.float32), np.empty((33, 130), np.float32)
    matmul(x, weight, None, together)
    for row in range(33):
        matmul(x[row : row + 1], weight, None, alone[row : row + 1])
    return together.tobytes() == alone.tobytes()


def to_text(facts: dict[str, Any]) -> str:
    """The same facts for a reader; what is wrong comes with what to do."""
    installed = ", ".join(f"{name} {v}" for name, v in facts["packages"].items() if v)
    lines = [
        f"{'healthy' if facts['healthy'] else 'not healthy'}: detrec {facts['detrec']}, "
        f"Python {facts['python']}, {facts['cpu'] or facts['machine']}, {facts['threads']} threads",
        f"  packages    {installed}",
    ]
    lines += [
        f"  self-test   {name.replace('_', ' ')}: {'yes' if ok else 'NO'}"
        for name, ok in facts["self_tests"].items()
    ]
    lines += [f"  environment {name}={value}" for name, value in facts["environment"].items()]
    if not facts["frameworks"]:
        lines.append("  no framework: pip install 'detrec[cpu]' for Paddle, 'detrec[torch]' for PyTorch")
    return "\n".join(lines)
