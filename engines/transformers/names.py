"""Which op of the built-in engine is which tensor of transformers' decoder."""

from collections.abc import Iterator, Mapping

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.hooks import Tap

HEAD = "lm_head"
ROPE = "apply_rotary_pos_emb"
"""RoPE is a function of the module that the model's class is in."""


def op_names(config: ModelConfig) -> tuple[str, ...]:
    """The ops of a step in causal order, by the built-in engine's names, so that runs of both compare.

    What is drawn is no op of its own: here it is the argmax of the logits, and a trace keeps it anyway.
    """
    heads = ("q_norm", "k_norm") if config.qk_norm else ()
    layer = (
        *("attn_norm", "qkv", *heads, "rope_q", "rope_k", "attn", "o_proj"),
        *("attn_residual", "mlp_norm", "gate_up", "act", "down_proj", "output"),
    )
    inside = (f"{index}.{op}" for index in range(config.num_layers) for op in layer)
    return ("embedding", *inside, "final_norm", "logits")


def rope_ops(layer: int) -> tuple[str, str]:
    """What the rotary embedding of `layer` gives."""
    return f"{layer}.rope_q", f"{layer}.rope_k"


def taps(config: ModelConfig, kernels: Mapping[str, str]) -> Iterator[Tap]:
    """Every op that is an output or an input of a module; the logits' and RoPE's are not here.

    `kernels` names what computes "attn" and "act", which are no module's output.
    """
    yield Tap("embedding", "model.embed_tokens")
    for index in range(config.num_layers):
        yield from _layer(str(index), f"model.layers.{index}", config.qk_norm, kernels)
    yield Tap("final_norm", "model.norm")


def _layer(i: str, path: str, qk_norm: bool, kernels: Mapping[str, str]) -> Iterator[Tap]:
    attention, mlp = f"{path}.self_attn", f"{path}.mlp"
    yield Tap(f"{i}.attn_norm", f"{path}.input_layernorm")
    for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
        yield Tap(f"{i}.qkv", f"{attention}.{name}", part=part, parts=3)
    if qk_norm:
        yield Tap(f"{i}.q_norm", f"{attention}.q_norm")
        yield Tap(f"{i}.k_norm", f"{attention}.k_norm")
    yield Tap(f"{i}.attn", f"{attention}.o_proj", entering=True, kernel=kernels["attn"])
    yield Tap(f"{i}.o_proj", f"{attention}.o_proj")
    yield Tap(f"{i}.attn_residual", f"{path}.post_attention_layernorm", entering=True, kernel="add")
    yield Tap(f"{i}.mlp_norm", f"{path}.post_attention_layernorm")
    for part, name in enumerate(("gate_proj", "up_proj")):
        yield Tap(f"{i}.gate_up", f"{mlp}.{name}", part=part, parts=2)
    yield Tap(f"{i}.act", f"{mlp}.down_proj", entering=True, kernel=kernels["act"])
    yield Tap(f"{i}.down_proj", f"{mlp}.down_proj")
    yield Tap(f"{i}.output", path)
