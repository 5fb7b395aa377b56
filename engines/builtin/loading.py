"""From a checkpoint's tensors to a Decoder in the framework's memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from detrec.config import EngineConfig
from detrec.engines.base import Progress
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.model import Decoder, Layer
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.weights import Checkpoint
from detrec.kernels import arrays
from detrec.kernels.cpu.packed import PackedWeight, pack_weight
from detrec.kernels.cpu.rope import rope_tables


class Placement(Protocol):
    """Where a decoder's arrays go, and how they are laid out there."""

    def vector(self, values: np.ndarray) -> Any:
        """float32 of any shape, as it is."""
        ...

    def matrix(self, parts: Sequence[np.ndarray], dtype: str) -> Any:
        """One weight (N, K) of `parts` stacked along N, each in "float32", or bfloat16 bits in uint16."""
        ...

    def cache(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Zeros of `dtype`."""
        ...


class CpuPlacement:
    """Memory of `framework`, weights packed for the CPU's matmul."""

    def __init__(self, framework: str) -> None:
        self._framework = framework

    def _alloc(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        memory = arrays.host_view(arrays.empty(self._framework, shape, _name(dtype)))
        return arrays.prefer_huge_pages(memory)

    def vector(self, values: np.ndarray) -> np.ndarray:
        """A copy that the framework owns."""
        memory = self._alloc(values.shape, values.dtype)
        memory[...] = values
        return memory

    def matrix(self, parts: Sequence[np.ndarray], dtype: str) -> PackedWeight:
        """Packed into panels."""
        return pack_weight(parts, self._alloc)

    def cache(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Zeros; bfloat16 as bits."""
        memory = self._alloc(shape, storage(dtype))
        memory[...] = 0
        return memory


@dataclass(frozen=True, slots=True)
class _Weights:
    """A checkpoint's tensors, cut to one rank's part, where `place` puts them."""

    checkpoint: Checkpoint
    engine: EngineConfig
    place: Placement
    cut: Cut

    def _part(self, name: str, dtype: str) -> np.ndarray:
        return self.cut.part(name, self.checkpoint.tensor(name, dtype))

    def vector(self, *names: str) -> Any:
        return self.place.vector(np.concatenate([self._part(name, "float32") for name in names]))

    def packed(self, *names: str) -> Any:
        # float16 is rounded from float32 once; bfloat16 is what checkpoints hold
        stored = "bfloat16" if self.engine.dtype == "bfloat16" else "float32"
        return self.place.matrix([self._part(name, stored) for name in names], self.engine.dtype)

    def layer(self, index: int, config: ModelConfig, num_blocks: int) -> Layer:
        at = f"model.layers.{index}."
        qkv = [f"{at}self_attn.{which}_proj" for which in "qkv"]
        width = config.num_kv_heads * config.head_dim
        shape = num_blocks, self.engine.block_size, 2, width
        return Layer(
            attn_norm=self.vector(at + "input_layernorm.weight"),
            qkv=self.packed(*(name + ".weight" for name in qkv)),
            qkv_bias=self.vector(*(name + ".bias" for name in qkv)) if config.qkv_bias else None,
            q_norm=self.vector(at + "self_attn.q_norm.weight") if config.qk_norm else None,
            k_norm=self.vector(at + "self_attn.k_norm.weight") if config.qk_norm else None,
            o_proj=self.packed(at + "self_attn.o_proj.weight"),
            mlp_norm=self.vector(at + "post_attention_layernorm.weight"),
            gate_up=self.packed(at + "mlp.gate_proj.weight", at + "mlp.up_proj.weight"),
            down_proj=self.packed(at + "mlp.down_proj.weight"),
            cache=self.place.cache(shape, self.engine.dtype),
        )


def load_decoder(
    checkpoint: Checkpoint,
    engine: EngineConfig,
    num_blocks: int,
    place: Placement,
    progress: Progress | None = None,
    cut: Cut | None = None,
) -> Decoder:
    """Every weight and zeroed KV caches where `place` puts them; of a model that is cut, one rank's part."""
    cut = cut or Cut(checkpoint.config)
    config = cut.local()
    weights = _Weights(checkpoint, engine, place, cut)

    def layer(index: int) -> Layer:
        if progress:
            progress("load layers", index, config.num_layers)
        return weights.layer(index, config, num_blocks)

    embedding = weights.packed("model.embed_tokens.weight")
    cos, sin = rope_tables(config.inv_freq(), engine.max_model_len)
    decoder = Decoder(
        config=config,
        embedding=embedding,
        layers=tuple(layer(index) for index in range(config.num_layers)),
        final_norm=weights.vector("model.norm.weight"),
        lm_head=embedding if config.tie_word_embeddings else weights.packed("lm_head.weight"),
        cos=place.vector(cos),
        sin=place.vector(sin),
    )
    if progress:
        progress("load layers", config.num_layers, config.num_layers)
    return decoder


def storage(dtype: str) -> np.dtype:
    """The numpy dtype that holds `dtype` on the CPU: bfloat16 as its bits."""
    return np.dtype(np.uint16 if dtype == "bfloat16" else np.float32)


def _name(dtype: np.dtype) -> str:
    return "bfloat16" if dtype == np.uint16 else np.dtype(dtype).name
