"""Qwen2, Qwen3 and Llama decoders, written as the list of what a trace holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.ops import Ops


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer; what a model family lacks is None. `cache` is the layer's paged KV."""

    attn_norm: Any
    qkv: Any
    qkv_bias: Any
    q_norm: Any
    k_norm: Any
    o_proj: Any
    mlp_norm: Any
    gate_up: Any
    down_proj: Any
    cache: Any


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder-only transformer. `cos` and `sin` are float32 [max_model_len, head_dim / 2]."""

    config: ModelConfig
    embedding: Any
    layers: tuple[Layer, ...]
    final_norm: Any
    lm_head: Any
    cos: Any
    sin: Any

    def hidden(self, ops: Ops, batch: Any) -> Any:
        """Every row of `batch`, or its twin on a device, through every layer and the final norm: [R, H]."""
        x = ops.embedding("embedding", batch.tokens, self.embedding)
        for index, layer in enumerate(self.layers):
            x = self._layer(ops, str(index), layer, x, batch)
        return ops.rms_norm("final_norm", x, self.final_norm, self.config.rms_norm_eps)

    def logits(self, ops: Ops, hidden: Any) -> Any:
        """Rows [S, H] to float32 [S, vocabulary]."""
        return ops.matmul("logits", hidden, self.lm_head, None)

    def sample(self, ops: Ops, hidden: Any, penalties: Any, draws: Any) -> Any:
        """A token for each of the rows [S, H] that sample."""
        penalised = ops.penalise("logits_penalised", self.logits(ops, hidden), penalties)
        return ops.sample("sampled", ops.log_softmax("logprobs", penalised), draws)

    def _layer(self, ops: Ops, i: str, layer: Layer, x: Any, batch: Any) -> Any:
        config = self.config
        q_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        eps, scale = config.rms_norm_eps, config.head_dim**-0.5

        normed = ops.rms_norm(i + ".attn_norm", x, layer.attn_norm, eps)
        qkv = ops.matmul(i + ".qkv", normed, layer.qkv, layer.qkv_bias)
        q, k, v = qkv[:, :q_width], qkv[:, q_width : q_width + kv_width], qkv[:, q_width + kv_width :]
        if layer.q_norm is not None:
            q = ops.rms_norm(i + ".q_norm", q, layer.q_norm, eps)
            k = ops.rms_norm(i + ".k_norm", k, layer.k_norm, eps)
        q = ops.rope(i + ".rope_q", q, batch.positions, self.cos, self.sin)
        k = ops.rope(i + ".rope_k", k, batch.positions, self.cos, self.sin)
        ops.kv_write(i + ".kv_write", k, v, layer.cache, batch.slots)
        attended = ops.attention(i + ".attn", q, layer.cache, batch, scale)
        o = ops.matmul(i + ".o_partial", attended, layer.o_proj, None)
        o = ops.all_reduce(i + ".o_proj", o)
        x = ops.add(i + ".attn_residual", x, o)

        normed = ops.rms_norm(i + ".mlp_norm", x, layer.mlp_norm, eps)
        gate_up = ops.matmul(i + ".gate_up", normed, layer.gate_up, None)
        act = ops.silu_mul(i + ".act", gate_up)
        down = ops.matmul(i + ".down_partial", act, layer.down_proj, None)
        down = ops.all_reduce(i + ".down_proj", down)
        return ops.add(i + ".output", x, down)


def op_names(config: ModelConfig) -> Iterator[str]:
    """Every op of a step, in the order in which it runs."""
    heads = ("q_norm", "k_norm") if config.qk_norm else ()
    layer = (
        *("attn_norm", "qkv", *heads, "rope_q", "rope_k", "kv_write", "attn", "o_partial", "o_proj"),
        *("attn_residual", "mlp_norm", "gate_up", "act", "down_partial", "down_proj", "output"),
    )
    yield "embedding"
    for index in range(config.num_layers):
        yield from (f"{index}.{op}" for op in layer)
    yield from ("final_norm", "logits", "logits_penalised", "logprobs", "sampled")
