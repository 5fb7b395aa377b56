"""Whether a serve.yaml can be recorded on this machine, and what of it leaves bits to chance.

Nothing is started and no engine imported: what only shows when it is, `detrec record` says.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from detrec.config import ServeConfig, load_config
from detrec.config_engines import FOREIGN


def recordable(
    serve: str,
    frameworks: Sequence[str],
    gpus: Sequence[Mapping[str, str]],
    packages: Mapping[str, str | None],
) -> dict[str, Any]:
    """`verdict` "yes" or "no" with its `reasons`, and `holes`, where bits are left to chance.

    `frameworks` that are installed, `gpus` as `cuda.describe` tells them, versions of `packages`. Raises
    ConfigError for a serve.yaml that nobody could record.
    """
    config = load_config(serve)
    missing = _missing(config, frameworks, len(gpus), packages)
    return {
        "record": {"config": serve, "verdict": "no" if missing else "yes", "reasons": missing},
        "holes": _holes(config),
    }


def _missing(
    config: ServeConfig, frameworks: Sequence[str], gpus: int, packages: Mapping[str, str | None]
) -> list[str]:
    """What this machine lacks."""
    engine = config.engine
    if engine.name in FOREIGN:
        installed = any(version for package, version in packages.items() if package.startswith(engine.name))
        return [] if installed else [f"engine.name: {engine.name} is not installed"]
    if engine.name != "builtin":
        return []
    missing = []
    if engine.framework not in frameworks:
        missing.append(f"engine.framework: {engine.framework} is not installed")
    if engine.device == "gpu" and gpus < engine.tensor_parallel_size:
        missing.append(f"engine.device: gpu: {engine.tensor_parallel_size} needed, {gpus} can be used")
    return missing


def _holes(config: ServeConfig) -> list[str]:
    if config.engine.name == "fastdeploy":
        from detrec.engines.fastdeploy.offline import foreseen_holes

        return foreseen_holes(config, os.environ)
    if config.engine.name == "builtin":
        promised = config.engine.deterministic
        return [] if promised else ["engine.deterministic is false: its kernels promise nothing"]
    invariant = config.engine.name == "transformers" and config.engine.arguments.get("invariant_kernels")
    return [] if invariant else [f"engine.name: {config.engine.name}: its kernels may depend on the batch"]
