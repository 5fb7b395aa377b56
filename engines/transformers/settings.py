"""The keys under `engine` that are transformers' own, checked against the version that is installed."""

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detrec.config import EngineConfig
from detrec.engines.base import Request
from detrec.engines.transformers import library
from detrec.errors import ConfigError

IMPLEMENTATIONS = ("sdpa", "eager")
PAGE_SIZE = 16
MAX_BATCH_TOKENS = 256

# what detrec decides, because another value would hide what it is to see
_FIXED: dict[str, tuple[Any, str]] = {
    "use_async_batching": (False, "a step would begin before the one before it is known"),
    "use_cuda_graph": (False, "graphs hide the layers from hooks"),
    "auto_switch_to_flash": (False, "engine.attn_implementation says which attention runs"),
    "default_compile_level": (0, "compiled code hides the layers from hooks"),
    "varlen_compile_config": (None, "compiled code hides the layers from hooks"),
    "decode_compile_config": (None, "compiled code hides the layers from hooks"),
    "cpu_offload_space": (0.0, "requests are preempted by recompute"),
    "per_request_processors": (False, "detrec follows greedy decoding only"),
    "return_logprobs": (False, "detrec takes them from the logits"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """`batching`: fields of ContinuousBatchingConfig that are given to it.

    `static`: batches are padded and run to their end by `generate`, of `max_requests_per_batch` requests.
    `invariant_kernels`: linear layers, norms, RoPE, gates and attention are detrec's batch-invariant ones.
    """

    attn_implementation: str
    invariant_kernels: bool
    batching: dict[str, Any]
    static: bool = False


def settings_of(engine: EngineConfig) -> Settings:
    """The arguments of `engine`, checked. ConfigError for an unknown key or a value that hides the layers."""
    arguments = dict(engine.arguments)
    attention = arguments.pop("attn_implementation", IMPLEMENTATIONS[0])
    invariant = arguments.pop("invariant_kernels", False)
    kind = arguments.pop("batching", "continuous")
    _check_batching(kind, arguments, invariant)
    if (engine.device, engine.dtype) == ("cpu", "float16"):
        raise ConfigError(
            "engine.dtype: rows of float16 have a fingerprint on a GPU only, got float16 with device: cpu",
            hint="set it to float32 or bfloat16, or engine.device to gpu",
        )
    _check_kernels(attention, invariant)
    known = [field.name for field in dataclasses.fields(_config_class())]
    if "page_size" in arguments and "page_size" not in known:
        # what 5.17 calls it
        arguments["block_size"] = arguments.pop("page_size")
    _check_keys(arguments, known)
    _check_values(arguments)
    fixed = {key: value for key, (value, _) in _FIXED.items() if key in known}
    return Settings(attention, invariant, {**arguments, **fixed}, kind == "static")


def batching_config(settings: Settings, requests: Sequence[Request], scheduler: str | None) -> Any:
    """A ContinuousBatchingConfig in which nothing is left to the machine's free memory.

    `scheduler` is the name of the scheduler class to use, None for what the settings say.
    """
    given = dict(settings.batching)
    names = [field.name for field in dataclasses.fields(_config_class())]
    page = "page_size" if "page_size" in names else "block_size"
    size = given.get("block_size") or given.get(page) or PAGE_SIZE
    given.setdefault(page, size)
    given.setdefault("max_batch_tokens", MAX_BATCH_TOKENS)
    if given.get("num_blocks") is None:
        needs = (-(-(len(r.prompt) + r.sampling.max_tokens) // size) for r in requests)
        # a fifth more than all requests can come to hold: nothing is preempted that need not be
        given["num_blocks"] = 2 + sum(needs) * 5 // 4
    if scheduler is not None:
        given["scheduler_type"] = scheduler
    try:
        return _config_class()(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"engine: transformers refuses its configuration: {error}") from None


def _check_batching(kind: Any, arguments: dict[str, Any], invariant: Any) -> None:
    if kind not in ("continuous", "static"):
        raise ConfigError(f"engine.batching: expected continuous or static, got {kind!r}")
    if kind == "static":
        odd = next((key for key in arguments if key != "max_requests_per_batch"), "")
        if odd or invariant:
            raise ConfigError(
                f"engine.{odd or 'invariant_kernels'}: not with batching: static, where generate runs padded "
                "batches of max_requests_per_batch",
                hint="leave it out, or set batching: continuous",
            )


def _check_kernels(attention: Any, invariant: Any) -> None:
    if attention not in IMPLEMENTATIONS:
        raise ConfigError(
            f"engine.attn_implementation: expected one of {', '.join(IMPLEMENTATIONS)}, got {attention!r}"
        )
    if not isinstance(invariant, bool):
        raise ConfigError(f"engine.invariant_kernels: expected true or false, got {invariant!r}")
    if invariant and attention != "sdpa":
        raise ConfigError(
            f"engine.invariant_kernels: they take the place of sdpa, got attn_implementation: {attention}",
            hint="leave out attn_implementation",
        )


def _check_keys(arguments: dict[str, Any], known: list[str]) -> None:
    for key, value in arguments.items():
        if key not in known:
            own = ["attn_implementation", "batching", "invariant_kernels", "name", "device", "dtype"]
            near = difflib.get_close_matches(str(key), [*own, *known], n=1)
            raise ConfigError(
                f"engine: unknown key {key!r} for transformers",
                hint=f"did you mean {near[0]}?" if near else "the fields of its ContinuousBatchingConfig",
            )
        if key in _FIXED and value != _FIXED[key][0]:
            raise ConfigError(
                f"engine.{key}: expected {_FIXED[key][0]}, got {value!r}: {_FIXED[key][1]}",
                hint=f"leave out {key}",
            )


def _check_values(arguments: dict[str, Any]) -> None:
    for key in ("max_batch_tokens", "max_requests_per_batch", "num_blocks", "page_size", "block_size"):
        value = arguments.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"engine.{key}: expected a whole number of at least 1, got {value!r}")
    scheduler = arguments.get("scheduler_type", "fifo")
    schedulers = library.part(library.batching("scheduler"), "SCHEDULER_MAPPING")
    if scheduler not in schedulers:
        raise ConfigError(
            f"engine.scheduler_type: expected one of {', '.join(schedulers)}, got {scheduler!r}: "
            "transformers would run fifo instead"
        )


def _config_class() -> Any:
    return library.part(library.module("transformers"), "ContinuousBatchingConfig")
