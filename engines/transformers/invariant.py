"""detrec's batch-invariant CPU kernels in the place of transformers' and torch's own.

With them a row's bits do not depend on what else is in its batch, and in float32 they are the built-in
engine's. Embedding, residual additions and argmax stay torch's: each row of those is exact, or a copy.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.transformers import library
from detrec.engines.transformers.names import ROPE
from detrec.errors import EngineError
from detrec.kernels import arrays
from detrec.kernels.cpu import attention as attending
from detrec.kernels.cpu import matmul as multiplying
from detrec.kernels.cpu import rms_norm as norming
from detrec.kernels.cpu import rope as rotating
from detrec.kernels.cpu import silu_mul as gating
from detrec.kernels.cpu.packed import pack_weight

KERNELS: Mapping[str, str] = {"attn": attending.KERNEL, "act": gating.KERNEL, "rope": rotating.KERNEL}
"""What computes the ops that are no module's output."""

_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
_LINEARS = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
_BLOCK = 16
_WITH_CACHE = "paged|sdpa"

Forward = Callable[..., Any]


class Invariant:
    """The kernels for `model`, a model on the CPU: its weights packed, its tables computed, once."""

    def __init__(self, model: Any, config: ModelConfig) -> None:
        self._torch = library.module("torch")
        self._model = model
        self._home = library.module(type(model).__module__)
        library.part(self._home, ROPE)
        self._attention = library.part(
            library.module("transformers.modeling_utils"), "ALL_ATTENTION_FUNCTIONS"
        )
        self._head_dim = config.head_dim
        cos, sin = rotating.rope_tables(config.inv_freq(), config.max_position_embeddings)
        self._tables = self._torch.from_numpy(cos), self._torch.from_numpy(sin)
        self._forwards = dict(self._made(model, config))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model runs on these kernels; nothing of them is left after."""
        rope, mine = getattr(self._home, ROPE), {layer.self_attn for layer in self._model.model.layers}
        # continuous batching may have changed it for its own
        name = self._model.config._attn_implementation
        if name not in ("sdpa", _WITH_CACHE):
            raise EngineError(f"engine.invariant_kernels: transformers runs its attention as {name}")
        theirs, ours = self._attention[name], self._attend if name == "sdpa" else self._attend_cache

        def attention(module: Any, *args: Any, **kwargs: Any) -> Any:
            # the table of attentions is one for all models of the process
            return (ours if module in mine else theirs)(module, *args, **kwargs)

        for module, forward in self._forwards.items():
            module.forward = forward
        self._attention[name] = attention
        setattr(self._home, ROPE, self._rotate)
        try:
            yield
        finally:
            setattr(self._home, ROPE, rope)
            del self._attention[name]
            for module in self._forwards:
                del module.forward

    def _made(self, model: Any, config: ModelConfig) -> Iterator[tuple[Any, Forward]]:
        norms, linears = [model.model.norm], [model.lm_head]
        for layer in model.model.layers:
            norms += [layer.get_submodule(name) for name in _NORMS[: 4 if config.qk_norm else 2]]
            linears += [layer.get_submodule(name) for name in _LINEARS]
            yield layer.mlp, self._mlp(layer.mlp)
        for norm in norms:
            yield norm, self._norm(norm, config.rms_norm_eps)
        for linear in linears:
            yield linear, self._linear(linear)
        yield model.model.rotary_emb, self._angles

    def _linear(self, module: Any) -> Forward:
        weight = pack_weight(arrays.host_view(module.weight.detach()))
        bias = None if module.bias is None else module.bias.detach().float().numpy().copy()

        def forward(x: Any) -> Any:
            out = self._torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype)
            multiplying.matmul(_rows(x), weight, bias, _rows(out))
            return out

        return named(multiplying.KERNEL, forward)

    def _norm(self, module: Any, eps: float) -> Forward:
        weight = arrays.host_view(module.weight.detach())

        def forward(x: Any) -> Any:
            out = self._torch.empty(x.shape, dtype=x.dtype)
            norming.rms_norm(_rows(x), weight, eps, _rows(out))
            return out

        return named(norming.KERNEL, forward)

    def _mlp(self, module: Any) -> Forward:
        def forward(x: Any) -> Any:
            both = self._torch.cat((module.gate_proj(x), module.up_proj(x)), dim=-1)
            out = self._torch.empty((*both.shape[:-1], both.shape[-1] // 2), dtype=both.dtype)
            gating.silu_mul(_rows(both), _rows(out))
            return module.down_proj(out)

        return forward

    def _angles(self, x: Any, position_ids: Any) -> tuple[Any, Any]:
        """Rows of the tables, float32 [1, rows, head_dim / 2]; transformers has them of the model's dtype."""
        cos, sin = self._tables
        return cos[position_ids.long()], sin[position_ids.long()]

    def _rotate(self, q: Any, k: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> tuple[Any, Any]:
        """RoPE of q and k [1, heads, rows, head_dim]."""
        tables = cos[0].numpy(), sin[0].numpy()
        # the tables have a row for each row of the step
        places = np.arange(cos.shape[1])
        return self._rotated(q, places, *tables), self._rotated(k, places, *tables)

    def _rotated(self, x: Any, places: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> Any:
        wide = x.transpose(1, 2).contiguous()
        out = self._torch.empty_like(wide)
        shape = wide.shape[1], -1
        rotating.rope(_view(wide, shape), places, cos, sin, _view(out, shape))
        return out.transpose(1, 2)

    def _attend_cache(
        self, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **kwargs: Any
    ) -> tuple[Any, None]:
        """As 5.17 has it: attention itself updates the cache, which gives [keys, kv_heads, D]."""
        about = {name: kwargs[name] for name in ("read_index", "write_index")}
        kept = kwargs["cache"].update(key_states=key, value_states=value, layer_idx=module.layer_idx, **about)
        key, value = (x.transpose(0, 1).unsqueeze(0) for x in kept)
        return self._attend(module, query, key, value, mask, scaling, **kwargs)

    def _attend(
        self, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **kwargs: Any
    ) -> tuple[Any, None]:
        """query [1, heads, rows, D]; key and value [1, kv_heads, keys, D], a request after the other."""
        try:
            rows, keys = (kwargs[name].tolist() for name in ("cu_seq_lens_q", "cu_seq_lens_k"))
        except KeyError as error:
            raise library.moved(f"attention is not told {error}") from None
        if key.shape[2] != keys[-1]:
            raise EngineError(f"attention was given {key.shape[2]} keys, expected {keys[-1]}")
        cache, tables = self._paged(key, value, keys)
        row_seq = np.repeat(np.arange(len(rows) - 1, dtype=np.int32), np.diff(rows))
        # the last row of a request is at its last key
        ends = np.array(keys[1:], np.int64) - np.array(keys[:-1]) - np.array(rows[1:])
        positions = np.arange(rows[-1], dtype=np.int64) + ends[row_seq]
        q = query.transpose(1, 2).contiguous()
        out = self._torch.empty_like(q)
        shape = q.shape[1], -1
        attending.attention(
            *(_view(q, shape), cache, tables, row_seq, positions, scaling, _view(out, shape)),
            head_dim=self._head_dim,
        )
        return out, None

    def _paged(self, key: Any, value: Any, keys: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """A KV cache of this step alone: [blocks, _BLOCK, 2, kv_heads * D], and its block tables."""
        count = key.shape[2]
        k, v = (_view(x.transpose(1, 2).contiguous(), (count, -1)) for x in (key, value))
        lengths = [last - first for first, last in pairwise(keys)]
        needs = [-(-length // _BLOCK) for length in lengths]
        cache = np.zeros((sum(needs), _BLOCK, 2, k.shape[1]), k.dtype)
        tables = np.full((len(lengths), max(needs)), -1, np.int32)
        flat, block = cache.reshape(-1, 2, k.shape[1]), 0
        for seq, (first, length, need) in enumerate(zip(keys, lengths, needs, strict=False)):
            at = block * _BLOCK
            flat[at : at + length, 0] = k[first : first + length]
            flat[at : at + length, 1] = v[first : first + length]
            tables[seq, :need] = np.arange(block, block + need)
            block += need
        return cache, tables


def named(kernel: str, forward: Forward) -> Forward:
    """Give a module's forward the name of the kernel it runs."""
    forward.kernel = kernel  # type: ignore[attr-defined]
    return forward


def _rows(x: Any) -> np.ndarray:
    """A tensor's memory with its leading axes as one; norms of heads have a row a head."""
    return _view(x, (-1, x.shape[-1]))


def _view(x: Any, shape: tuple[int, int]) -> np.ndarray:
    view = arrays.host_view(x.detach())
    assert view.flags.c_contiguous, "a copy would be written in place of the tensor"
    return view.reshape(shape)
