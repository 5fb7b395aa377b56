"""`deterministic: false` on a GPU: torch's own matmul and attention, for contrast.

cuBLAS and SDPA choose kernels by shape, so a row's bits depend on the rows around it. No library reads this
paged cache, so SDPA attends in slices that begin at position 0, and our kernel in all others.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.gpu_inputs import PADDING, DeviceBatch
from detrec.engines.ops import Ops, named
from detrec.kernels import arrays
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.workspace import DeviceWorkspace


def whole_slices(batch: Batch) -> tuple[tuple[int, int], ...]:
    """(first row, end row) of the slices of several rows that begin at position 0."""
    starts = np.flatnonzero(np.r_[True, batch.row_seq[1:] != batch.row_seq[:-1]])
    ends = np.r_[starts[1:], len(batch.row_seq)]
    return tuple(
        (int(start), int(end))
        for start, end in zip(starts, ends, strict=True)
        if end - start > 1 and batch.positions[start] == 0
    )


def without(row_seq: np.ndarray, slices: tuple[tuple[int, int], ...]) -> np.ndarray:
    """`row_seq` with the rows of `slices` marked as none, for a plan that leaves them out."""
    left = row_seq.copy()
    for start, end in slices:
        left[start:end] = PADDING
    return left


def gpu_vendor_ops(ops: Ops, device: Device, workspace: DeviceWorkspace, dtype: str, head_dim: int) -> Ops:
    """`ops` with `matmul` and, where it can be, `attention` done by torch's libraries."""
    torch: Any = arrays.framework_module("torch")
    stream = torch.cuda.ExternalStream(device.stream.handle)
    biases: dict[int, Any] = {}
    written: list[DeviceArray] = []

    @named("torch.mm (cuBLAS)")
    def matmul(name: str, x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None) -> DeviceArray:
        out = workspace.empty((len(x), len(weight)), "float32" if name == "logits" else dtype)
        left, right, result = arrays.as_torch(x), arrays.as_torch(weight).t(), arrays.as_torch(out)
        with torch.cuda.stream(stream):
            if bias is not None:
                if bias.address not in biases:
                    biases[bias.address] = arrays.as_torch(bias).to(left.dtype)
                torch.addmm(biases[bias.address], left, right, out=result)
            elif out.dtype == x.dtype:
                torch.mm(left, right, out=result)
            else:
                torch.ops.aten.mm.dtype_out(left, right, torch.float32, out=result)
        return out

    @named(ops.kv_write.kernel)
    def kv_write(name: str, *args: Any) -> DeviceArray:
        out: DeviceArray = ops.kv_write(name, *args)
        written[:] = [out]
        return out

    @named("torch.scaled_dot_product_attention")
    def attention(
        name: str, q: DeviceArray, cache: DeviceArray, batch: DeviceBatch, scale: float
    ) -> DeviceArray:
        out: DeviceArray = ops.attention(name, q, cache, batch, scale)
        width = cache.shape[3]
        for start, end in batch.whole:
            kv = written[0][start:end]
            parts = (q[start:end], kv[:, :width], kv[:, width:])
            heads = [arrays.as_torch(part).unflatten(1, (-1, head_dim)).transpose(0, 1) for part in parts]
            with torch.cuda.stream(stream):
                attended = torch.nn.functional.scaled_dot_product_attention(
                    *(x[None] for x in heads), is_causal=True, scale=scale, enable_gqa=True
                )
                arrays.as_torch(out[start:end]).copy_(attended[0].transpose(0, 1).flatten(1))
        return out

    return replace(ops, matmul=matmul, kv_write=kv_write, attention=attention)
