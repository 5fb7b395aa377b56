"""The invariant kernels of a GPU, on torch tensors: Triton reads and writes their memory in place.

Launches go to the stream that the model runs in, so that torch's allocator, which orders memory by that
stream, may give a tensor's memory on as soon as Python lets go of it. With few rows the host is what a step
waits for: what can be worked out once is, and products of one input are one product.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detrec.engines.builtin.gpu_inputs import Inputs
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.transformers import library
from detrec.engines.transformers.invariant import Forward, Spans, named
from detrec.kernels import arrays
from detrec.kernels.again import Again
from detrec.kernels.cpu.rope import rope_tables
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import attention as attending
from detrec.kernels.gpu import matmul as multiplying
from detrec.kernels.gpu import rms_norm as norming
from detrec.kernels.gpu import rope as rotating
from detrec.kernels.gpu import silu_mul as gating


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
        self._gated = Again(gating.silu_mul, _rows)
        self._rotated = Again(rotating.rope, _rows)

    def begin(self, spans: Spans, device: Device | None) -> None:
        """Send what attention needs to know of the step, once for all layers.

        Keys lie without gaps, a request after the other: pages of one position.
        """
        assert device is not None, "kernels of a GPU without one"
        config = self._config
        if device is not self._device:
            self._device, self._inputs = device, Inputs(device)
            self._scratch = device.empty((0,), "uint8")
        plan = attending.plan_step(spans.row_seq, spans.positions, config.num_heads // config.num_kv_heads)
        pages = spans.firsts[:, None] + np.arange(spans.lengths.max())
        twins = self._inputs.send(
            {
                "table": plan.table,
                "row_seq": spans.row_seq,
                "positions": spans.positions,
                "places": np.arange(spans.rows),
                "pages": pages.astype(np.int32),
            }
        )
        self._places = twins["places"]
        needed = attending.scratch_bytes(plan, config.num_heads, config.num_kv_heads, config.head_dim)
        if needed > len(self._scratch):
            self._scratch = device.empty((needed,), "uint8")
        about, scratch = (twins["pages"], twins["row_seq"], twins["positions"]), self._scratch

        def attend(q: DeviceArray, cache: DeviceArray, out: DeviceArray) -> None:
            attending.attention(
                *(q, cache, *about, plan, twins["table"], self._scale, out, scratch, config.head_dim)
            )

        self._attended = Again(attend, _rows_or_cache)

    def linears(self, modules: Sequence[Any]) -> list[Forward]:
        """The forwards of linear layers that are given one input in turn: the first computes for all."""
        if len(modules) == 1:
            return [self._linear(modules[0].weight, modules[0].bias)]
        torch, sizes = self._torch, [len(module.weight) for module in modules]
        weight = torch.cat([module.weight.detach() for module in modules])
        for module, part in zip(modules, weight.split(sizes), strict=True):
            # the layer's own memory is given back
            module.weight.data = part
        biases = [module.bias for module in modules if module.bias is not None]
        whole = self._linear(weight, torch.cat(biases) if biases else None)
        return _in_turn(whole, sizes, [self._linear(module.weight, module.bias) for module in modules])

    def _linear(self, weight: Any, bias: Any) -> Forward:
        matrix = arrays.device_view(weight.contiguous())
        added = None if bias is None else arrays.device_view(bias.float())
        again = Again(lambda x, out: multiplying.matmul(x, matrix, added, out), _rows)

        def forward(x: Any) -> Any:
            x = x.contiguous()
            out = x.new_empty((*x.shape[:-1], len(matrix)))
            again(self._stream, x, out)
            return out

        return named(multiplying.KERNEL, forward)

    def norm(self, module: Any, eps: float) -> Forward:
        """The forward of an RMS norm, of rows or of the heads of rows."""
        weight = arrays.device_view(module.weight.float())
        again = Again(lambda x, out: norming.rms_norm(x, weight, eps, out), _rows)

        def forward(x: Any) -> Any:
            if x.is_contiguous():
                out = self._torch.empty_like(x)
                again(self._stream, x, out)
                return out
            # heads have others beside them: a row of all is a row still
            lines = x.reshape(x.shape[1], -1)
            out = lines.new_empty(lines.shape)
            again(self._stream, lines, out)
            return out.view(x.shape)

        return named(norming.KERNEL, forward)

    def gate(self, gate: Any, up: Any) -> Any:
        """silu(gate) * up."""
        width, stride = gate.shape[-1], gate.stride(-2)
        out = gate.new_empty(gate.shape)
        if len(gate) == 1 and _beside(gate, up, width, stride):
            both = gate.as_strided((gate.shape[1], 2 * width), (stride, 1))
        else:
            both = self._torch.cat((gate, up), dim=-1)
        self._gated(self._stream, both, out)
        return out

    def angles(self, positions: Any) -> tuple[Any, Any]:
        """Rows of the tables; transformers has them of the model's dtype."""
        positions = positions.long()
        return self._cos[positions], self._sin[positions]

    def rotate(self, q: Any, k: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
        """RoPE of q [1, heads, R, D] and k [1, kv_heads, R, D]."""
        # the tables have a row for each row of the step
        about = self._places, cos.contiguous(), sin.contiguous()
        width, stride = q.shape[1] * q.shape[3], q.stride(2)
        if q.stride(1) == k.stride(1) == q.shape[3] and _beside(q, k, width, stride):
            both = q.as_strided((q.shape[2], width + k.shape[1] * k.shape[3]), (stride, 1))
            first, second = self._turned(both, *about, q.shape[1], k.shape[1])
            return first, second
        return self._turned(_lines(q), *about, q.shape[1])[0], self._turned(_lines(k), *about, k.shape[1])[0]

    def _turned(self, lines: Any, places: DeviceArray, cos: Any, sin: Any, *heads: int) -> list[Any]:
        """RoPE of lines [R, all heads * D]; of each number of heads [1, heads, R, D]."""
        out = lines.new_empty(lines.shape)
        self._rotated(self._stream, lines, places, cos, sin, out)
        rows, width = out.shape
        size, start, parts = self._config.head_dim, 0, []
        for count in heads:
            parts.append(out.as_strided((1, count, rows, size), (rows * width, size, width, 1), start))
            start += count * size
        return parts

    def attend(self, query: Any, key: Any, value: Any, scale: float) -> Any:
        """Attention of query [1, heads, R, D] to key and value [1, kv_heads, keys, D]; [1, R, heads, D]."""
        lines = _lines(query)
        out = lines.new_empty(lines.shape)
        kept = self._torch.stack((_lines(key), _lines(value)), dim=1)
        self._scale = scale
        self._attended(self._stream, lines, kept, out)
        return out.view(1, len(out), query.shape[1], -1)

    @property
    def _stream(self) -> int:
        assert self._device is not None, "a kernel outside a step"
        return self._device.stream.handle


def _in_turn(whole: Forward, sizes: Sequence[int], alone: Sequence[Forward]) -> list[Forward]:
    """Forwards of which each gives its part of `whole`, [..., sum of sizes], if they are called in turn."""
    waiting: list[Any] = []
    places = list(zip(sizes, itertools.accumulate(sizes, initial=0), strict=False))

    def first(x: Any) -> Any:
        every = whole(x)
        shape, stride = every.shape[:-1], every.stride()
        # `split` takes many times as long
        parts = [every.as_strided((*shape, size), stride, start) for size, start in places]
        waiting[:] = [x, *parts[1:]]
        return parts[0]

    def later(number: int, x: Any) -> Any:
        if len(waiting) != len(sizes) + 1 - number or waiting[0] is not x:
            return alone[number](x)
        part = waiting.pop(1)
        if len(waiting) == 1:
            # the input is not kept alive for longer than it is needed
            waiting.clear()
        return part

    rest: list[Forward] = [functools.partial(later, number) for number in range(1, len(sizes))]
    return [named(multiplying.KERNEL, forward) for forward in (first, *rest)]


def _beside(left: Any, right: Any, width: int, stride: int) -> bool:
    """Whether rows of `right` follow those of `left`, of `width` elements, `stride` elements from row to row.

    Rows are the last axis but one, and the last one lies without gaps.
    """
    return bool(
        right.data_ptr() == left.data_ptr() + width * left.element_size()
        and right.stride(-2) == stride > width
        and left.stride(-1) == right.stride(-1) == 1
    )


def _lines(x: Any) -> Any:
    """[R, heads * D] of x [1, heads, R, D], rows at any stride; no copy where that is how it lies."""
    _, heads, rows, size = x.shape
    _, head, row, element = x.stride()
    if element == 1 and head == size:
        return x.as_strided((rows, heads * size), (row, 1))
    return x.transpose(1, 2).reshape(rows, -1)


def _rows(x: Any) -> DeviceArray:
    """A tensor's memory with its leading axes as one; norms of heads have a row a head."""
    if isinstance(x, DeviceArray):
        return x
    return arrays.device_view(x.reshape(-1, x.shape[-1]))


def _rows_or_cache(x: Any) -> DeviceArray:
    """The same of queries and outputs; of [keys, 2, width] a cache in pages of one position."""
    view = arrays.device_view(x)
    return view if x.dim() == 2 else view.reshape(len(x), 1, *x.shape[1:])
