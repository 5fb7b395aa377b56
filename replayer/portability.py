"""Whether a machine can replay a trace bit for bit: what the kernels promise, held against what is here.

Pure: the manifest of a recording and the facts of a machine in, a verdict with its reasons out. Where nothing
promises equal bits and nothing rules them out, the verdict is unknown: only a replay can tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Machine:
    """`frameworks` that are installed, `gpus` as `cuda.describe` tells them, versions of packages."""

    kernels_version: int
    frameworks: Sequence[str]
    gpus: Sequence[Mapping[str, str]]
    packages: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Outlook:
    """`verdict` is "yes", "no" or "unknown"; `overrides` are what replay has to be told with --set."""

    verdict: str
    reasons: tuple[str, ...]
    overrides: tuple[str, ...] = field(default=())


def outlook(manifest: Mapping[str, Any], here: Machine) -> Outlook:
    """Can `here` replay the recording of `manifest`, schedule and tokens forced, with equal bits?"""
    engine, recorded = manifest["config"]["engine"], manifest["environment"]
    if engine.get("name", "builtin") != "builtin":
        return _foreign(engine["name"], here)
    device = manifest["engine"].get("device", {"kind": "cpu"})
    if not engine["deterministic"]:
        return Outlook("no", ("it was recorded with deterministic: false, whose kernels promise nothing",))
    if recorded["kernels_version"] != here.kernels_version:
        ours, theirs = here.kernels_version, recorded["kernels_version"]
        return Outlook("no", (f"its kernels are version {theirs}, this detrec has {ours}",))
    if not here.frameworks:
        return Outlook("no", ("neither Paddle nor PyTorch is installed",))
    overrides = []
    if engine["framework"] not in here.frameworks:
        overrides.append(f"engine.framework={here.frameworks[0]}")
    if device["kind"] == "cpu":
        return Outlook("yes", ("a CPU's kernels give the same bits on any x86 CPU",), tuple(overrides))
    if engine["dtype"] == "float32":
        if not here.gpus:
            overrides.append("engine.device=cpu")
        return Outlook("yes", ("float32 has the same bits on GPUs and CPUs",), tuple(overrides))
    return _low_precision(engine["dtype"], device, recorded["packages"], here, tuple(overrides))


def _foreign(name: str, here: Machine) -> Outlook:
    if not any(version for package, version in here.packages.items() if package.startswith(name)):
        return Outlook("no", (f"it was recorded on {name}, which is not installed here",))
    return Outlook("unknown", (f"it was recorded on {name}, whose kernels are not detrec's",))


def _low_precision(
    dtype: str,
    device: Mapping[str, str],
    packages: Mapping[str, str],
    here: Machine,
    overrides: tuple[str, ...],
) -> Outlook:
    if not here.gpus:
        return Outlook("no", (f"{dtype} on a GPU has the bits of tensor cores, and there is no GPU here",))
    ours = here.gpus[0]
    if ours["capability"] != device["capability"]:
        reason = (
            f"{dtype} was recorded on compute capability {device['capability']}, here is {ours['capability']}"
        )
        return Outlook("unknown", (reason,), overrides)
    theirs, installed = packages.get("triton"), here.packages.get("triton")
    if theirs != installed:
        return Outlook("unknown", (f"Triton {theirs} compiled its kernels, here is {installed}",), overrides)
    return Outlook(
        "yes", (f"the same GPU architecture ({ours['capability']}) and Triton {installed}",), overrides
    )
