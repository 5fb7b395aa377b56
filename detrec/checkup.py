"""`detrec doctor`: what this machine can run, and whether its kernels keep their promise here."""

import os
import platform
import shlex
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from detrec.printable import counted, line

PACKAGES = (
    "fastdeploy-gpu",
    "fastdeploy",
    "paddlepaddle",
    "paddlepaddle-gpu",
    "torch",
    "transformers",
    "triton",
    "numba",
    "numpy",
    "zarr",
    "numcodecs",
    "tokenizers",
    "gguf",
)
FRAMEWORKS = {"paddle": ("paddlepaddle", "paddlepaddle-gpu"), "torch": ("torch",)}
VARIABLES = ("FD_DETERMINISTIC_MODE", "FD_DETERMINISTIC_SPLIT_KV_SIZE", "NUMBA_NUM_THREADS", "NUMBA_CPU_NAME")


def examine(run: str | None = None) -> dict[str, Any]:
    """Versions, devices, environment and self-tests; `healthy` is false when nothing could be recorded here.

    With `run`, a trace, also whether it can be replayed here bit for bit; with a serve.yaml, whether it can
    be recorded here; with either, what in its configuration leaves bits to chance.
    """
    installed = {name: _version(name) for name in PACKAGES}
    frameworks = [
        name for name, packages in FRAMEWORKS.items() if any(installed[package] for package in packages)
    ]
    tests = {"matmul_is_batch_invariant": _matmul_is_batch_invariant()}
    gpus, missing = _gpus(installed)
    facts = {
        "healthy": bool(frameworks) and all(tests.values()),
        "detrec": _version("detrec"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "threads": os.cpu_count(),
        "gpus": gpus,
        "no_gpu": missing,
        "frameworks": frameworks,
        "packages": installed,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "self_tests": tests,
    }
    if run is not None and run.endswith((".yaml", ".yml")):
        from detrec.recordable import recordable

        facts |= recordable(run, frameworks, gpus, installed)
    elif run is not None:
        facts |= _outlook(run, frameworks, gpus, installed)
    return facts


def _gpus(installed: dict[str, str | None]) -> tuple[list[dict[str, str]], str]:
    """The GPUs that can be used, else why there is none."""
    from detrec.kernels import cuda

    count = cuda.device_count()
    if not count:
        return [], cuda.why_none()
    if not installed["triton"]:
        return [], "Triton is not installed: pip install 'detrec[gpu]'"
    return [cuda.describe(index) for index in range(count)], ""


def _outlook(
    run: str, frameworks: list[str], gpus: list[dict[str, str]], packages: dict[str, str | None]
) -> dict[str, Any]:
    from dataclasses import asdict

    from detrec.config_engines import registered
    from detrec.kernels import KERNELS_VERSION
    from detrec.recorder.reader import TraceReader
    from detrec.replayer.portability import Machine, outlook

    others = {name: point.dist.version for name, point in registered().items() if point.dist}
    here = Machine(KERNELS_VERSION, frameworks, gpus, {**packages, **others})
    manifest = TraceReader(run).manifest
    facts: dict[str, Any] = {"replay": {"trace": run, **asdict(outlook(manifest, here))}}
    if "holes" in manifest["engine"]:
        facts["holes"] = manifest["engine"]["holes"]
    return facts


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
    threads = counted(facts["threads"] or 1, "thread")
    lines = [
        f"{'healthy' if facts['healthy'] else 'not healthy'}: detrec {facts['detrec']}, "
        f"Python {facts['python']}, {facts['cpu'] or facts['machine']}, {threads}",
        f"  packages    {installed}",
    ]
    lines += [f"  gpu         {_gpu(about)}" for about in facts["gpus"]]
    if not facts["gpus"]:
        lines.append(f"  gpu         none: {facts['no_gpu']}")
    lines += [
        f"  self-test   {name.replace('_', ' ')}: {'yes' if ok else 'NO'}"
        for name, ok in facts["self_tests"].items()
    ]
    lines += [f"  environment {name}={value}" for name, value in facts["environment"].items()]
    if not facts["frameworks"]:
        lines.append("  no framework: pip install 'detrec[cpu]' for Paddle, 'detrec[torch]' for PyTorch")
    if "replay" in facts:
        lines += _replay(facts["replay"])
    if "record" in facts:
        lines += _record(facts["record"], facts["holes"])
    lines += [f"  not deterministic: {hole}" for hole in facts.get("holes", ())]
    return "\n".join(lines)


def _gpu(about: dict[str, str]) -> str:
    return ", ".join([about["name"], *(f"{key} {about[key]}" for key in ("capability", "driver", "runtime"))])


def _replay(outlook: dict[str, Any]) -> list[str]:
    """Can the trace be replayed here, why, and with which command."""
    words = {"yes": "can be replayed here bit for bit", "no": "cannot be replayed here bit for bit"}
    said = words.get(outlook["verdict"], "may or may not have the same bits here: a replay will tell")
    lines = [f"  {line(outlook['trace'])}: {said}"]
    lines += [f"              {reason}" for reason in outlook["reasons"]]
    if outlook["verdict"] != "no":
        sets = [word for text in outlook["overrides"] for word in ("--set", text)]
        lines.append(f"              {_command('replay', outlook['trace'], *sets)}")
    return lines


def _record(record: dict[str, Any], holes: list[str]) -> list[str]:
    """Can the serve.yaml be recorded here, and with which command; and that nothing is amiss, if so."""
    can = record["verdict"] == "yes"
    lines = [f"  {line(record['config'])}: can{'' if can else 'not'} be recorded here"]
    lines += [f"              {reason}" for reason in record["reasons"]]
    if can:
        lines.append(f"              {_command('record', record['config'])}")
    if not holes:
        lines.append("              nothing in it is known to leave bits to chance")
    return lines


def _command(*words: str) -> str:
    """A line for a shell."""
    return line(shlex.join(["detrec", *words]))
