"""What of FastDeploy's configuration detrec has to know: can it be recorded, and how far can it be trusted.

Configurations moved between versions, so that what is not there reads as its default.
"""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from detrec.engines.fastdeploy.holes import Setup, holes

PACKAGES = ("fastdeploy-gpu", "fastdeploy", "fastdeploy-cpu")
# of the built-in engine's architectures only Qwen2 has biases whatever its config says
_BIASED = ("Qwen2ForCausalLM",)
_ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}


def installed_version() -> str:
    """The version of FastDeploy, empty where it is not installed as a package."""
    for package in PACKAGES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def read(config: Any, path: str, default: Any = None) -> Any:
    """The dotted attribute of a FastDeploy configuration, `default` where it is not there or None."""
    for name in path.split("."):
        config = getattr(config, name, None)
        if config is None:
            return default
    return config


def uses_graphs(config: Any) -> bool:
    """Whether steps are replayed as CUDA graphs."""
    return bool(read(config, "graph_opt_config.use_cudagraph", False))


def hides_layers(config: Any) -> bool:
    """Whether steps run without the Python of the layers: as CUDA graphs, or as a compiled static graph."""
    return uses_graphs(config) or int(read(config, "graph_opt_config.graph_opt_level", 0)) > 0


def refusals(config: Any) -> list[str]:
    """Why a worker of this FDConfig cannot be recorded; empty where it can."""
    found = {
        "enable_overlap_schedule launches rows before it is known which of them live; set it to false": read(
            config, "scheduler_config.enable_overlap_schedule", False
        ),
        "speculative decoding is not supported": read(config, "speculative_config.method") is not None,
        "pooling models are not supported": read(config, "model_config.runner_type") == "pooling",
        "multimodal models are not supported": bool(read(config, "enable_mm_runtime", False)),
        "expert parallelism is not supported": bool(read(config, "parallel_config.use_ep", False)),
        "data parallelism is not supported": read(config, "parallel_config.data_parallel_size", 1) > 1,
        "splitwise roles other than mixed are not supported": read(
            config, "scheduler_config.splitwise_role", "mixed"
        )
        != "mixed",
    }
    return [reason for reason, holds in found.items() if holds]


def setup_of(config: Any, environ: Mapping[str, str]) -> Setup:
    """What of an FDConfig and the worker's environment the holes depend on."""
    model = read(config, "model_config")
    itemsize = _ITEMSIZE.get(_dtype(read(model, "dtype", "bfloat16")), 2)
    quantised = read(config, "quant_config.kv_cache_quant_type", "")
    return Setup(
        tensor_parallel_size=int(read(config, "parallel_config.tensor_parallel_size", 1)),
        use_cudagraph=uses_graphs(config),
        qkv_bias=has_qkv_bias(read(model, "architectures", ()), bool(read(model, "attention_bias", False))),
        kv_cache=str(quantised or ""),
        enable_prefix_caching=bool(read(config, "cache_config.enable_prefix_caching", True)),
        max_num_batched_tokens=int(read(config, "scheduler_config.max_num_batched_tokens", 0)),
        activation_bytes=int(read(model, "hidden_size", 0)) * itemsize,
        **from_environment(environ),
    )


def _dtype(name: Any) -> str:
    """ "bfloat16" also of "paddle.bfloat16"."""
    return str(name).rpartition(".")[2]


def setup_of_section(
    arguments: Mapping[str, Any], model: Mapping[str, Any], variables: Mapping[str, str]
) -> Setup:
    """The same, before anything runs: of FastDeploy's arguments and the model's config.json ({} if unknown).

    What neither says has FastDeploy's default. `variables` are those that FastDeploy will be started with.
    """
    graphs = arguments.get("graph_optimization_config") or {}
    quantised = {**(model.get("quantization_config") or {}), **(arguments.get("quantization") or {})}
    itemsize = _ITEMSIZE.get(str(model.get("torch_dtype") or model.get("dtype") or "bfloat16"), 2)
    return Setup(
        tensor_parallel_size=int(arguments.get("tensor_parallel_size", 1)),
        use_cudagraph=bool(graphs.get("use_cudagraph", True)),
        qkv_bias=has_qkv_bias(model.get("architectures"), bool(model.get("attention_bias"))),
        kv_cache=str(quantised.get("kv_cache_quant_type") or ""),
        enable_prefix_caching=bool(arguments.get("enable_prefix_caching", True)),
        max_num_batched_tokens=int(arguments.get("max_num_batched_tokens") or 0),
        activation_bytes=int(model.get("hidden_size", 0)) * itemsize,
        **from_environment(variables),
    )


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What FastDeploy reads from its environment, as fields of Setup."""
    return {
        "deterministic": environ.get("FD_DETERMINISTIC_MODE", "0") not in ("0", ""),
        "split_kv_size": int(environ.get("FD_DETERMINISTIC_SPLIT_KV_SIZE", "16")),
        "all_reduce_mib": int(environ.get("FD_CUSTOM_AR_MAX_SIZE_MB", "8")),
        "attention_backend": environ.get("FD_ATTENTION_BACKEND", "APPEND_ATTN"),
        "sampling_class": environ.get("FD_SAMPLING_CLASS", "base"),
    }


def has_qkv_bias(architectures: Any, attention_bias: bool) -> bool:
    """Whether the model's QKV projections have biases."""
    return attention_bias or any(name in _BIASED for name in architectures or ())


def manifest_of(config: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """What of a worker can change bits, JSON-ready, with the holes of its deterministic mode."""
    setup = setup_of(config, environ)
    return {
        "fastdeploy": installed_version(),
        "architectures": list(read(config, "model_config.architectures", ())),
        "num_blocks": int(read(config, "cache_config.total_block_num", 0)),
        "block_size": int(read(config, "cache_config.block_size", 0)),
        "dtype": _dtype(read(config, "model_config.dtype", "bfloat16")),
        "layers": "hidden" if hides_layers(config) else "seen",
        "setup": asdict(setup),
        "holes": [str(hole) for hole in holes(setup)],
    }
