"""Hugging Face's config.json as a ModelConfig, refusing whatever the decoder would not compute.

Nothing that changes the arithmetic is skipped over: a feature this engine lacks is an error naming its key.
"""

from collections.abc import Mapping
from typing import Any

from detrec.engines.builtin.model_config import ARCHITECTURES, ModelConfig
from detrec.engines.builtin.values import count, number, refused, token_ids

ANOTHER_MODEL = f"the built-in engine runs {', '.join(ARCHITECTURES)} decoders with full attention"

# key -> the values under which it changes nothing
_INERT: dict[str, tuple[Any, ...]] = {
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "use_sliding_window": (None, False),
    "quantization_config": (None,),
    "hidden_act": (None, "silu"),
    "partial_rotary_factor": (None, 1),
}
_ROPE_NUMBERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def from_hf(
    data: Mapping[str, Any], generation: Mapping[str, Any] | None = None, where: str = "config.json"
) -> ModelConfig:
    """A ModelConfig from config.json; the eos ids of generation_config.json are added where there is one.

    RoPE is read from `rope_theta` and `rope_scaling`, or from `rope_parameters` as transformers 5 writes it.
    Raises ModelError for an absent size, a value of the wrong type, and all that the decoder does not do.
    """
    architecture = data.get("model_type")
    if architecture not in ARCHITECTURES:
        raise refused(where, "model_type", f"one of {', '.join(ARCHITECTURES)}", architecture, ANOTHER_MODEL)
    _plain(data, where)
    hidden, heads = count(data, "hidden_size", where), count(data, "num_attention_heads", where)
    theta, scaling = _rope(data, where)
    tied = data.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise refused(where, "tie_word_embeddings", "true or false", tied)
    eos = {
        *token_ids(data, "eos_token_id", where),
        *token_ids(generation or {}, "eos_token_id", "generation_config.json"),
    }
    config = ModelConfig(
        architecture=str(architecture),
        vocab_size=count(data, "vocab_size", where),
        hidden_size=hidden,
        intermediate_size=count(data, "intermediate_size", where),
        num_layers=count(data, "num_hidden_layers", where),
        num_heads=heads,
        num_kv_heads=count(data, "num_key_value_heads", where, heads),
        head_dim=count(data, "head_dim", where, hidden // heads),
        rms_norm_eps=number(data, "rms_norm_eps", where, 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        max_position_embeddings=count(data, "max_position_embeddings", where),
        tie_word_embeddings=tied,
        qkv_bias=architecture == "qwen2",
        qk_norm=architecture == "qwen3",
        eos_token_ids=tuple(sorted(eos)),
        bos_token_id=next(iter(token_ids(data, "bos_token_id", where)), None),
    )
    return checked(config, where)


def checked(config: ModelConfig, where: str) -> ModelConfig:
    """The config itself, once its sizes fit together; ModelError where they do not."""
    if config.num_heads % config.num_kv_heads:
        raise refused(
            where, "key-value heads", f"a divisor of the {config.num_heads} heads", config.num_kv_heads
        )
    if config.head_dim % 2:
        raise refused(where, "head_dim", "an even number", config.head_dim)
    for token in config.eos_token_ids:
        if token >= config.vocab_size:
            raise refused(where, "eos_token_id", f"ids under the vocabulary's {config.vocab_size}", token)
    return config


def _plain(data: Mapping[str, Any], where: str) -> None:
    """Refuse every feature in use that the decoder lacks."""
    for key, inert in _INERT.items():
        if data.get(key) not in inert:
            expected = " or ".join(repr(value) for value in inert if value is not None) or "none"
            raise refused(where, key, expected, data[key], ANOTHER_MODEL)
    for kind in data.get("layer_types") or ():
        if kind != "full_attention":
            raise refused(where, "layer_types", "full_attention only", kind, ANOTHER_MODEL)
    # Qwen has a switch for its window (above), Llama has none: there a window is one in use
    if data["model_type"] == "llama" and data.get("sliding_window") is not None:
        raise refused(where, "sliding_window", "none", data["sliding_window"], ANOTHER_MODEL)


def _rope(data: Mapping[str, Any], where: str) -> tuple[float, dict[str, Any] | None]:
    key = "rope_parameters" if data.get("rope_parameters") else "rope_scaling"
    rope = data.get(key) or {}
    if not isinstance(rope, Mapping):
        raise refused(where, key, "a mapping", rope)
    at = f"{where}: {key}"
    # transformers before 4.43 called it `type`
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in _ROPE_NUMBERS:
        raise refused(at, "rope_type", f"one of {', '.join(_ROPE_NUMBERS)}", kind, ANOTHER_MODEL)
    if rope.get("partial_rotary_factor", 1) != 1:
        raise refused(at, "partial_rotary_factor", "1", rope["partial_rotary_factor"], ANOTHER_MODEL)
    theta = (
        number(rope, "rope_theta", at) if "rope_theta" in rope else number(data, "rope_theta", where, 10000.0)
    )
    if kind == "default":
        return theta, None
    return theta, {"rope_type": kind, **{name: number(rope, name, at) for name in _ROPE_NUMBERS[kind]}}
