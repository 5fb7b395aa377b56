"""The keys of serve.yaml, their types, defaults and bounds, as frozen dataclasses."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from detrec.config_engines import own_keys

DEFAULT_SEED = 42
MAX_SEED = 922337203685477580
MOST = (1 << 31) - 1
"""Of whatever is counted: a trace has int32 for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one request is continued. `temperature: 0` is greedy; `top_k: 0` and `top_p: 1` are off."""

    max_tokens: int = field(default=16, metadata={"min": 1, "max": MOST})
    min_tokens: int = field(default=0, metadata={"min": 0, "max": MOST})
    temperature: float = field(default=1.0, metadata={"min": 0.0})
    top_k: int = field(default=0, metadata={"min": 0, "max": MOST})
    top_p: float = field(default=1.0, metadata={"above": 0.0, "max": 1.0})
    min_p: float = field(default=0.0, metadata={"min": 0.0, "max": 1.0})
    repetition_penalty: float = field(default=1.0, metadata={"above": 0.0})
    presence_penalty: float = field(default=0.0, metadata={"min": -2.0, "max": 2.0})
    frequency_penalty: float = field(default=0.0, metadata={"min": -2.0, "max": 2.0})
    seed: int | None = field(default=None, metadata={"min": 0, "max": MAX_SEED})
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestConfig:
    """One request of serve.yaml: exactly one of `prompt`, `messages` and `prompt_token_ids`."""

    id: str
    prompt: str | None = None
    messages: tuple[dict[str, str], ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    arrival: int = field(default=0, metadata={"min": 0, "max": MOST})
    sampling: SamplingParams = SamplingParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How the engine runs. `seed` is for requests that name none; None becomes 42 in deterministic mode.

    `use_cudagraph`: on a GPU, steps of decodes alone are captured and run as CUDA graphs.
    `reduction`: o_proj and down_proj add the ranks' sums in rank order, or (`tp_invariant`) sums of fixed
    parts of K in a fixed tree, so that 1, 2, 4 and 8 ranks give the same bits. Of a foreign engine only the
    `own_keys` are here; whatever else its section says is in `arguments`, by its own names.
    """

    name: str = "builtin"
    framework: str = field(default="paddle", metadata={"choices": ("paddle", "torch")})
    device: str = field(default="cpu", metadata={"choices": ("cpu", "gpu")})
    dtype: str = field(default="float32", metadata={"choices": ("float32", "bfloat16", "float16")})
    deterministic: bool = True
    tensor_parallel_size: int = field(default=1, metadata={"min": 1, "max": 8})
    reduction: str = field(default="ranks", metadata={"choices": ("ranks", "tp_invariant")})
    max_model_len: int = field(default=2048, metadata={"min": 2, "max": MOST})
    max_num_seqs: int = field(default=8, metadata={"min": 1, "max": MOST})
    max_num_batched_tokens: int = field(default=512, metadata={"min": 1, "max": MOST})
    block_size: int = field(default=16, metadata={"min": 1, "max": MOST, "power_of_two": True})
    num_gpu_blocks_override: int | None = field(default=None, metadata={"min": 1, "max": MOST})
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    use_cudagraph: bool = True
    split_kv_size: int = field(default=16, metadata={"min": 1, "max": MOST, "power_of_two": True})
    seed: int | None = field(default=None, metadata={"min": 0, "max": MAX_SEED})
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"derived": True})

    def to_json(self) -> dict[str, Any]:
        """The section as serve.yaml has it."""
        own = own_keys(self.name)
        if own is not None:
            return {key: getattr(self, key) for key in own} | self.arguments
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("derived")}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig:
    """What a recording keeps: `level: layer` the layer outputs and the ops outside layers, `op` every op.

    `sketch`: beside each fingerprint four float32 numbers, by which runs of other engines, dtypes or devices
    compare within tolerance.
    """

    output: str = "run.zarr"
    level: str = field(default="op", metadata={"choices": ("layer", "op")})
    sketch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """A whole serve.yaml. `model` is `builtin:NAME`, a directory, or a .gguf file."""

    model: str
    engine: EngineConfig = EngineConfig()
    requests: tuple[RequestConfig, ...] = ()
    record: RecordConfig = RecordConfig()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, so that `serve_config(config.to_json())` gives the config back."""
        plain: dict[str, Any] = json.loads(json.dumps({**asdict(self), "engine": self.engine.to_json()}))
        return plain
