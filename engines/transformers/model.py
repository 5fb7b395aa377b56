"""A transformers model with the weights that the built-in engine has, tensor by tensor."""

from contextlib import AbstractContextManager
from typing import Any

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.weights import Checkpoint
from detrec.engines.transformers import library
from detrec.errors import EngineError

_FAMILIES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}
_DRAWS = {"normal_", "uniform_", "kaiming_uniform_", "trunc_normal_"}


def build(checkpoint: Checkpoint, dtype: str, device: str, attention: str) -> Any:
    """The causal language model of `checkpoint` in `dtype` on `device` ("cpu" or "gpu"), ready to run."""
    place = torch_place(device)
    torch, transformers = library.module("torch"), library.module("transformers")
    config = checkpoint.config
    family = _FAMILIES[config.architecture]
    kind = library.part(transformers, f"{family}ForCausalLM")
    described = library.part(transformers, f"{family}Config")(**_described(config))
    described._attn_implementation = attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with _undrawn(torch):
            model = kind(described)
    finally:
        torch.set_default_dtype(before)
    _load(torch, model, checkpoint)
    if config.rope_scaling and config.rope_scaling["rope_type"] == "factors":
        frequencies = torch.from_numpy(config.inv_freq()).float()
        library.part(model.model.rotary_emb, "inv_freq").copy_(frequencies)
    with library.within_memory(f"the weights of {checkpoint.config.architecture}"):
        return model.to(place).eval()


def _undrawn(torch: Any) -> AbstractContextManager[Any]:
    """Inside, a new model's random tensors stay as memory was: to draw them takes longer than to load."""

    class Undrawn(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            # torch.nn.init's functions, which name the tensor, and the methods that they call
            if getattr(function, "__name__", "") in _DRAWS:
                return args[0] if args else kwargs["tensor"]
            return function(*args, **kwargs)

    return Undrawn()


def torch_place(device: str) -> str:
    """What torch calls `device`, "cpu" or "gpu". EngineError where it finds no GPU."""
    if device == "cpu":
        return device
    if not library.module("torch").cuda.is_available():
        raise EngineError("engine.device: gpu: torch finds no GPU here", hint="set engine.device: cpu")
    return "cuda:0"


def _described(config: ModelConfig) -> dict[str, Any]:
    """The arguments of transformers' own configuration class."""
    scaling = config.rope_scaling or {"rope_type": "default"}
    if scaling["rope_type"] == "factors":
        scaling = {"rope_type": "default"}
    described = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": {**scaling, "rope_theta": config.rope_theta},
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids) or None,
        "pad_token_id": None,
    }
    return described if config.architecture == "qwen2" else {**described, "attention_bias": False}


def _load(torch: Any, model: Any, checkpoint: Checkpoint) -> None:
    """Copy every tensor; EngineError where transformers' model has others than the checkpoint."""
    wanted = dict(model.named_parameters())
    # a tied head has no tensor of its own
    names = set(checkpoint.config.shapes())
    if names != set(wanted):
        odd = sorted(names ^ set(wanted))[0]
        raise EngineError(f"transformers' {type(model).__name__} and the checkpoint differ in {odd}")
    with torch.no_grad():
        for name in checkpoint.config.shapes():
            wanted[name].copy_(torch.from_numpy(checkpoint.tensor(name, "float32")))
