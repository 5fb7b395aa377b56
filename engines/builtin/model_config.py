"""What a Qwen2, Qwen3 or Llama decoder is made of: its sizes, its constants and the tensors it needs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

ARCHITECTURES = ("qwen2", "qwen3", "llama")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes are element counts. Linear weights are (out, in) and carry Hugging Face's names.

    `rope_scaling` is None, or a mapping with `rope_type`: "linear" (`factor`), "llama3" (`factor`,
    `low_freq_factor`, `high_freq_factor`, `original_max_position_embeddings`), or "factors" (`factors`: one
    divisor of each frequency). `eos_token_ids` are all ids that end a text, sorted.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: dict[str, Any] | None
    max_position_embeddings: int
    tie_word_embeddings: bool
    qkv_bias: bool
    qk_norm: bool
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None

    def inv_freq(self) -> np.ndarray:
        """Rotation of each pair of a head in radians a position, scaling applied: float64 [head_dim / 2]."""
        # here, because the kernels load numba and a configuration must not
        from detrec.kernels.cpu.rope import inv_freq

        return scaled(inv_freq(self.rope_theta, self.head_dim), self.rope_scaling)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor that a checkpoint must hold, by name."""
        return dict(_shapes(self))


def _shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, mlp, head = config.hidden_size, config.intermediate_size, config.head_dim
    heads = {"q": config.num_heads, "k": config.num_kv_heads, "v": config.num_kv_heads}
    yield "model.embed_tokens.weight", (config.vocab_size, hidden)
    for index in range(config.num_layers):
        at = f"model.layers.{index}."
        yield at + "input_layernorm.weight", (hidden,)
        for part, count in heads.items():
            yield f"{at}self_attn.{part}_proj.weight", (count * head, hidden)
            if config.qkv_bias:
                yield f"{at}self_attn.{part}_proj.bias", (count * head,)
        if config.qk_norm:
            yield at + "self_attn.q_norm.weight", (head,)
            yield at + "self_attn.k_norm.weight", (head,)
        yield at + "self_attn.o_proj.weight", (hidden, config.num_heads * head)
        yield at + "post_attention_layernorm.weight", (hidden,)
        yield at + "mlp.gate_proj.weight", (mlp, hidden)
        yield at + "mlp.up_proj.weight", (mlp, hidden)
        yield at + "mlp.down_proj.weight", (hidden, mlp)
    yield "model.norm.weight", (hidden,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (config.vocab_size, hidden)


def scaled(frequencies: np.ndarray, scaling: dict[str, Any] | None) -> np.ndarray:
    """RoPE frequencies stretched for a longer context; in float64 add, multiply and divide alone.

    "llama3" is the rule of Llama 3.1: wavelengths past `original / low_freq_factor` are stretched by
    `factor`, those under `original / high_freq_factor` are left, between them the two are blended.
    """
    if scaling is None:
        return frequencies
    match scaling["rope_type"]:
        case "linear":
            return frequencies / scaling["factor"]
        case "factors":
            return frequencies / np.asarray(scaling["factors"], np.float64)
        case "llama3":
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
            kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
            return (1 - kept) * (frequencies / scaling["factor"]) + kept * frequencies
    raise ValueError(f"rope_type: expected linear, llama3 or factors, got {scaling['rope_type']!r}")
