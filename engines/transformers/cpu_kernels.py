"""The invariant kernels of a CPU, on torch tensors: numba reads and writes their memory in place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.transformers import library
from detrec.engines.transformers.invariant import Forward, Spans, named
from detrec.kernels import arrays
from detrec.kernels.cpu import attention as attending
from detrec.kernels.cpu import matmul as multiplying
from detrec.kernels.cpu import rms_norm as norming
from detrec.kernels.cpu import rope as rotating
from detrec.kernels.cpu import silu_mul as gating
from detrec.kernels.cpu.packed import pack_weight
from detrec.kernels.device import Device

_BLOCK = 16


class CpuKernels:
    """Kernels of models of `config`; weights are packed when their layer asks for its forward."""

    names: Mapping[str, str] = {
        "attn": attending.KERNEL,
        "act": gating.KERNEL,
        "rope": rotating.KERNEL,
    }

    def __init__(self, config: ModelConfig) -> None:
        self._torch = library.module("torch")
        self._head_dim = config.head_dim
        cos, sin = rotating.rope_tables(config.inv_freq(), config.max_position_embeddings)
        self._tables = self._torch.from_numpy(cos), self._torch.from_numpy(sin)

    def begin(self, spans: Spans, device: Device | None) -> None:
        """Block tables of this step's own cache, which has each request's keys from a block's start on."""
        self._spans = spans
        needs = -(-spans.lengths // _BLOCK)
        self._starts = np.cumsum(needs) - needs
        blocks = np.arange(needs.max())
        self._tables_of_blocks = np.where(blocks < needs[:, None], self._starts[:, None] + blocks, -1).astype(
            np.int32
        )

    def linears(self, modules: Sequence[Any]) -> list[Forward]:
        """The forwards of linear layers."""
        return [self._linear(module) for module in modules]

    def _linear(self, module: Any) -> Forward:
        weight = pack_weight(arrays.host_view(module.weight.detach()))
        bias = None if module.bias is None else module.bias.detach().float().numpy().copy()

        def forward(x: Any) -> Any:
            out = self._torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype)
            multiplying.matmul(_rows(x), weight, bias, _rows(out))
            return out

        return named(multiplying.KERNEL, forward)

    def norm(self, module: Any, eps: float) -> Forward:
        """The forward of an RMS norm."""
        weight = arrays.host_view(module.weight.detach())

        def forward(x: Any) -> Any:
            out = self._torch.empty(x.shape, dtype=x.dtype)
            norming.rms_norm(_rows(x), weight, eps, _rows(out))
            return out

        return named(norming.KERNEL, forward)

    def gate(self, gate: Any, up: Any) -> Any:
        """silu(gate) * up."""
        both = self._torch.cat((gate, up), dim=-1)
        out = self._torch.empty_like(gate)
        gating.silu_mul(_rows(both), _rows(out))
        return out

    def angles(self, positions: Any) -> tuple[Any, Any]:
        """Rows of the tables; transformers has them of the model's dtype."""
        cos, sin = self._tables
        return cos[positions.long()], sin[positions.long()]

    def rotate(self, q: Any, k: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
        """RoPE of q [1, heads, R, D] and k [1, kv_heads, R, D]."""
        return self._rotated(q, cos, sin), self._rotated(k, cos, sin)

    def _rotated(self, x: Any, cos: Any, sin: Any) -> Any:
        wide = x.transpose(1, 2).contiguous()
        out = self._torch.empty_like(wide)
        shape = wide.shape[1], -1
        # the tables have a row for each row of the step
        places = np.arange(cos.shape[1])
        rotating.rope(_view(wide, shape), places, cos[0].numpy(), sin[0].numpy(), _view(out, shape))
        return out.transpose(1, 2)

    def attend(self, query: Any, key: Any, value: Any, scale: float) -> Any:
        """Attention of query [1, heads, R, D] to key and value [1, kv_heads, keys, D]; [1, R, heads, D]."""
        q = query.transpose(1, 2).contiguous()
        out = self._torch.empty_like(q)
        shape = q.shape[1], -1
        about = self._tables_of_blocks, self._spans.row_seq, self._spans.positions
        attending.attention(
            *(_view(q, shape), self._cache(key, value), *about, scale, _view(out, shape)),
            head_dim=self._head_dim,
        )
        return out

    def _cache(self, key: Any, value: Any) -> np.ndarray:
        """A KV cache of this step alone: [blocks, _BLOCK, 2, kv_heads * D]."""
        spans, count = self._spans, key.shape[2]
        k, v = (_view(x.transpose(1, 2).contiguous(), (count, -1)) for x in (key, value))
        blocks = int(self._tables_of_blocks.max()) + 1
        cache = np.zeros((blocks, _BLOCK, 2, k.shape[1]), k.dtype)
        flat = cache.reshape(-1, 2, k.shape[1])
        for start, first, length in zip(self._starts * _BLOCK, spans.firsts, spans.lengths, strict=True):
            flat[start : start + length, 0] = k[first : first + length]
            flat[start : start + length, 1] = v[first : first + length]
        return cache


def _rows(x: Any) -> np.ndarray:
    """A tensor's memory with its leading axes as one; norms of heads have a row a head."""
    return _view(x, (-1, x.shape[-1]))


def _view(x: Any, shape: tuple[int, int]) -> np.ndarray:
    view = arrays.host_view(x.detach())
    assert view.flags.c_contiguous, "a copy would be written in place of the tensor"
    return view.reshape(shape)
