"""From a checkpoint's tensors to a Decoder in the framework's memory."""

from collections.abc import Callable

import numpy as np

from detrec.config import EngineConfig
from detrec.engines.builtin.model import Decoder, Layer
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.weights import Checkpoint
from detrec.kernels import arrays
from detrec.kernels.cpu.packed import PackedWeight, pack_weight
from detrec.kernels.cpu.rope import rope_tables

Progress = Callable[[str, int, int], None]
"""(what, done, total): called as work goes on."""


def load_decoder(
    checkpoint: Checkpoint, engine: EngineConfig, num_blocks: int, progress: Progress | None = None
) -> Decoder:
    """Every weight packed for the kernels and the KV caches zeroed, all owned by the framework."""
    config = checkpoint.config

    def alloc(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        memory = arrays.host_view(arrays.empty(engine.framework, shape, _name(dtype), engine.device))
        return arrays.prefer_huge_pages(memory)

    def owned(array: np.ndarray) -> np.ndarray:
        memory = alloc(array.shape, array.dtype)
        memory[...] = array
        return memory

    def vector(name: str) -> np.ndarray:
        return owned(checkpoint.tensor(name, "float32"))

    def packed(*names: str) -> PackedWeight:
        return pack_weight(np.concatenate([checkpoint.tensor(name, engine.dtype) for name in names]), alloc)

    def layer(index: int) -> Layer:
        if progress:
            progress("load layers", index, config.num_layers)
        at = f"model.layers.{index}."
        qkv = [f"{at}self_attn.{part}_proj" for part in "qkv"]
        cache = alloc(
            (num_blocks, engine.block_size, 2, config.num_kv_heads * config.head_dim), storage(engine.dtype)
        )
        cache[...] = 0
        return Layer(
            attn_norm=vector(at + "input_layernorm.weight"),
            qkv=packed(*(name + ".weight" for name in qkv)),
            qkv_bias=owned(np.concatenate([checkpoint.tensor(name + ".bias", "float32") for name in qkv]))
            if config.qkv_bias
            else None,
            q_norm=vector(at + "self_attn.q_norm.weight") if config.qk_norm else None,
            k_norm=vector(at + "self_attn.k_norm.weight") if config.qk_norm else None,
            o_proj=packed(at + "self_attn.o_proj.weight"),
            mlp_norm=vector(at + "post_attention_layernorm.weight"),
            gate_up=packed(at + "mlp.gate_proj.weight", at + "mlp.up_proj.weight"),
            down_proj=packed(at + "mlp.down_proj.weight"),
            cache=cache,
        )

    embedding = packed("model.embed_tokens.weight")
    cos, sin = _rope(config, engine.max_model_len)
    decoder = Decoder(
        config=config,
        embedding=embedding,
        layers=tuple(layer(index) for index in range(config.num_layers)),
        final_norm=vector("model.norm.weight"),
        lm_head=embedding if config.tie_word_embeddings else packed("lm_head.weight"),
        cos=owned(cos),
        sin=owned(sin),
    )
    if progress:
        progress("load layers", config.num_layers, config.num_layers)
    return decoder


def storage(dtype: str) -> np.dtype:
    """The numpy dtype that holds `dtype` on the CPU: bfloat16 as its bits."""
    return np.dtype(np.uint16 if dtype == "bfloat16" else np.float32)


def _name(dtype: np.dtype) -> str:
    return "bfloat16" if dtype == np.uint16 else np.dtype(dtype).name


def _rope(config: ModelConfig, length: int) -> tuple[np.ndarray, np.ndarray]:
    return rope_tables(config.inv_freq(), length)
