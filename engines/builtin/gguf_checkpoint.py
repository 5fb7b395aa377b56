"""A .gguf file as a checkpoint: ggml's names and layouts turned into Hugging Face's.

llama.cpp stores the query and key rows of the llama architecture interleaved (row 2i + j of a head is row
i + j*D/2 of Hugging Face's); qwen2 and qwen3 are stored as they are. Source: "permute" in the GGUF
specification's section on LLaMA.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detrec.engines.builtin.bfloat16 import stored, widened
from detrec.engines.builtin.gguf import GgufFile
from detrec.engines.builtin.gguf_quants import byte_size, dequantized
from detrec.engines.builtin.hf_config import ANOTHER_MODEL, checked
from detrec.engines.builtin.model_config import ARCHITECTURES, ModelConfig
from detrec.engines.builtin.tokenizer import Tokenizer
from detrec.engines.builtin.tokenizer_files import gguf_tokenizer
from detrec.engines.builtin.values import count, number, refused, token_ids
from detrec.engines.builtin.weights import check_tensors, file_digest
from detrec.errors import ModelError

_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_ROPE_FACTORS = "rope_freqs.weight"


class GgufCheckpoint:
    """Weights are dequantised when they are asked for. Raises ModelError; see `open_checkpoint`."""

    def __init__(self, path: Path) -> None:
        self._file = GgufFile(path)
        self._path = path
        self.config = _config(self._file)
        self._names = {name: _gguf_name(name) for name in self.config.shapes()}
        back = {gguf: name for name, gguf in self._names.items()}
        found = {back.get(name, name): info.shape for name, info in self._file.tensors.items()}
        check_tensors(str(path), self.config, found, ignored=(_ROPE_FACTORS,))
        for name in self._names.values():
            self._data(name)

    def tensor(self, name: str, dtype: str = "float32") -> np.ndarray:
        """A tensor as "float32", or as "bfloat16" bits in uint16."""
        if name not in self._names:
            raise ValueError(f"{self._path}: no tensor {name!r}")
        info = self._file.tensors[self._names[name]]
        values = dequantized(self._data(info.name), info.ggml_type, info.shape, f"{self._path}: {info.name}")
        if self.config.architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = _halves(values, self.config.head_dim)
        return stored(values, dtype)

    def stored(self, name: str) -> np.ndarray:
        """The bytes of a tensor as the file has them, mapped."""
        return self._data(self._names[name]).view(np.uint8).reshape(-1)

    def stores_plainly(self, name: str) -> bool:
        """Not said of this format: it packs elements into blocks, and turns the rows of q and k about."""
        return False

    def _data(self, gguf_name: str) -> np.ndarray:
        info = self._file.tensors[gguf_name]
        return self._file.data(info, byte_size(info.ggml_type, info.shape, f"{self._path}: {gguf_name}"))

    @cached_property
    def _digest(self) -> str:
        return file_digest({"gguf": self._path})

    def digest(self) -> str:
        """128 bits, in hex, of the file's bytes, wherever it lies."""
        return self._digest

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return gguf_tokenizer(self._file.metadata, str(self._path))

    def tokenizer(self) -> Tokenizer:
        """Built once from the file's metadata."""
        return self._tokenizer


def _gguf_name(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    index, _, part = name.removeprefix("model.layers.").partition(".")
    stem, _, kind = part.rpartition(".")
    return f"blk.{index}.{_LAYER[stem]}.{kind}"


def _halves(weight: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of each head from interleaved pairs to halves: (i, j) to (j, i), i < D/2, j < 2."""
    pairs = weight.reshape(-1, head_dim // 2, 2, weight.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def _config(file: GgufFile) -> ModelConfig:
    data, where = file.metadata, str(file.path)
    arch = data.get("general.architecture")
    if arch not in ARCHITECTURES:
        raise refused(
            where, "general.architecture", f"one of {', '.join(ARCHITECTURES)}", arch, ANOTHER_MODEL
        )
    _plain(data, arch, where)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError(
            f"{where}: has no token_embd.weight", hint="is it a whole model, and not a part or an adapter?"
        )
    hidden = count(data, f"{arch}.embedding_length", where)
    heads = count(data, f"{arch}.attention.head_count", where)
    head_dim = count(data, f"{arch}.attention.key_length", where, hidden // heads)
    for key in (f"{arch}.rope.dimension_count", f"{arch}.attention.value_length"):
        if count(data, key, where, head_dim) != head_dim:
            raise refused(where, key, f"the head's {head_dim}", data[key], ANOTHER_MODEL)
    ends = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
    config = ModelConfig(
        architecture=str(arch),
        vocab_size=embedding.shape[0],
        hidden_size=hidden,
        intermediate_size=count(data, f"{arch}.feed_forward_length", where),
        num_layers=count(data, f"{arch}.block_count", where),
        num_heads=heads,
        num_kv_heads=count(data, f"{arch}.attention.head_count_kv", where, heads),
        head_dim=head_dim,
        rms_norm_eps=number(data, f"{arch}.attention.layer_norm_rms_epsilon", where),
        rope_theta=number(data, f"{arch}.rope.freq_base", where, 10000.0),
        rope_scaling=_rope_scaling(file, arch, head_dim),
        max_position_embeddings=count(data, f"{arch}.context_length", where),
        tie_word_embeddings="output.weight" not in file.tensors,
        qkv_bias=arch == "qwen2",
        qk_norm=arch == "qwen3",
        eos_token_ids=tuple(sorted({token for key in ends for token in token_ids(data, key, where)})),
        bos_token_id=next(iter(token_ids(data, "tokenizer.ggml.bos_token_id", where)), None),
    )
    return checked(config, where)


def _plain(data: Mapping[str, Any], arch: str, where: str) -> None:
    """Refuse what the decoder lacks."""
    for key in (f"{arch}.expert_count", f"{arch}.attention.sliding_window"):
        if data.get(key):
            raise refused(where, key, "none", data[key], ANOTHER_MODEL)
    if data.get("split.count", 0) not in (0, 1):
        raise refused(
            where, "split.count", "one file", data["split.count"], "merge the parts: llama-gguf-split --merge"
        )


def _rope_scaling(file: GgufFile, arch: str, head_dim: int) -> dict[str, Any] | None:
    data, where = file.metadata, str(file.path)
    kind = data.get(f"{arch}.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise refused(where, f"{arch}.rope.scaling.type", "none or linear", kind, ANOTHER_MODEL)
    if kind == "linear":
        return {"rope_type": "linear", "factor": number(data, f"{arch}.rope.scaling.factor", where)}
    if f"{arch}.rope.scale_linear" in data:
        return {"rope_type": "linear", "factor": number(data, f"{arch}.rope.scale_linear", where)}
    info = file.tensors.get(_ROPE_FACTORS)
    if info is None:
        return None
    # Llama 3.1 and later: the converter writes what to divide each frequency by
    at = f"{where}: {_ROPE_FACTORS}"
    if info.shape != (head_dim // 2,):
        raise ModelError(f"{at}: expected shape {[head_dim // 2]}, got {list(info.shape)}")
    values = dequantized(
        file.data(info, byte_size(info.ggml_type, info.shape, at)), info.ggml_type, info.shape, at
    )
    values = widened(values) if values.dtype == np.uint16 else values
    return {"rope_type": "factors", "factors": tuple(values.tolist())}
