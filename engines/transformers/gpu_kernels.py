"""The invariant kernels of a GPU, on torch tensors: Triton reads and writes their memory in place.

Launches go to the stream that the model runs in, so that torch's allocator, which orders memory by that
stream, may give a tensor's memory on as soon as Python lets go of it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detrec.engines.builtin.gpu_inputs import Inputs
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.transformers import library
from detrec.engines.transformers.invariant import Forward, Spans, named
from detrec.kernels import arrays
from detrec.kernels.cpu.rope import rope_tables
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import attention as attending
from detrec.kernels.gpu import matmul as multiplying
from detrec.kernels.gpu import rms_norm as norming
from detrec.kernels.gpu import rope as rotating
from detrec.kernels.gpu import silu_mul as gating
from detrec.kernels.launch import on_stream


class GpuKernels:
    """Kernels of models of `config` whose tensors are at `place`, as torch names it."""

    names: Mapping[str, str] = {
        "attn": attending.KERNEL,
        "act": gating.KERNEL,
        "rope": rotating.KERNEL,
    }

    def __init__(self, config: ModelConfig, place: str) -> None:
        self._torch = library.module("torch")
        self._config = config
        tables = rope_tables(config.inv_freq(), config.max_position_embeddings)
        self._cos, self._sin = (self._torch.from_numpy(table).to(place) for table in tables)
        self._device: Device | None = None

    def begin(self, spans: Spans, device: Device | None) -> None:
        """Send what attention needs to know of the step, once for all layers.

        Keys lie without gaps, a request after the other: pages of one position.
        """
        assert device is not None, "kernels of a GPU without one"
        config = self._config
        if device is not self._device:
            self._device, self._inputs = device, Inputs(device)
            self._scratch = device.empty((0,), "uint8")
        self._plan = attending.plan_step(
            spans.row_seq, spans.positions, config.num_heads // config.num_kv_heads
        )
        pages = spans.firsts[:, None] + np.arange(spans.lengths.max())
        self._twins = self._inputs.send(
            {
                "table": self._plan.table,
                "row_seq": spans.row_seq,
                "positions": spans.positions,
                "places": np.arange(spans.rows),
                "pages": pages.astype(np.int32),
            }
        )
        needed = attending.scratch_bytes(self._plan, config.num_heads, config.num_kv_heads, config.head_dim)
        if needed > len(self._scratch):
            self._scratch = device.empty((needed,), "uint8")

    def linear(self, module: Any) -> Forward:
        """The forward of a linear layer."""
        weight = arrays.device_view(module.weight.contiguous())
        bias = None if module.bias is None else arrays.device_view(module.bias.float())

        def forward(x: Any) -> Any:
            out = x.new_empty((*x.shape[:-1], len(weight)))
            with self._launching():
                multiplying.matmul(_rows(x), weight, bias, _rows(out))
            return out

        return named(multiplying.KERNEL, forward)

    def norm(self, module: Any, eps: float) -> Forward:
        """The forward of an RMS norm."""
        weight = arrays.device_view(module.weight.float())

        def forward(x: Any) -> Any:
            out = x.new_empty(x.shape)
            with self._launching():
                norming.rms_norm(_rows(x), weight, eps, _rows(out))
            return out

        return named(norming.KERNEL, forward)

    def gate(self, gate: Any, up: Any) -> Any:
        """silu(gate) * up."""
        both, out = self._torch.cat((gate, up), dim=-1), gate.new_empty(gate.shape)
        with self._launching():
            gating.silu_mul(_rows(both), _rows(out))
        return out

    def angles(self, positions: Any) -> tuple[Any, Any]:
        """Rows of the tables; transformers has them of the model's dtype."""
        return self._cos[positions.long()], self._sin[positions.long()]

    def rotate(self, x: Any, cos: Any, sin: Any) -> Any:
        """RoPE of x [1, heads, R, D]."""
        lines = _lines(x)
        out = lines.new_empty(lines.shape)
        # the tables have a row for each row of the step
        tables = [arrays.device_view(table[0].contiguous()) for table in (cos, sin)]
        with self._launching():
            rotating.rope(*(_rows(lines), self._twins["places"], *tables, _rows(out)))
        return out.view(1, len(out), x.shape[1], -1).transpose(1, 2)

    def attend(self, query: Any, key: Any, value: Any, scale: float) -> Any:
        """Attention of query [1, heads, R, D] to key and value [1, kv_heads, keys, D]; [1, R, heads, D]."""
        lines = _lines(query)
        out = lines.new_empty(lines.shape)
        kept = self._torch.stack((_lines(key), _lines(value)), dim=1)
        cache = arrays.device_view(kept).reshape(len(kept), 1, *kept.shape[1:])
        twins = self._twins
        with self._launching():
            attending.attention(
                *(_rows(lines), cache, twins["pages"], twins["row_seq"], twins["positions"]),
                *(self._plan, twins["table"], scale, _rows(out), self._scratch),
                self._config.head_dim,
            )
        return out.view(1, len(out), query.shape[1], -1)

    def _launching(self) -> Any:
        assert self._device is not None, "a kernel outside a step"
        return on_stream(self._device.stream.handle)


def _lines(x: Any) -> Any:
    """[R, heads * D] of x [1, heads, R, D]; no copy where that is how it lies."""
    return x.transpose(1, 2).reshape(x.shape[2], -1).contiguous()


def _rows(x: Any) -> DeviceArray:
    """A tensor's memory with its leading axes as one; norms of heads have a row a head."""
    return arrays.device_view(x.reshape(-1, x.shape[-1]).contiguous())
