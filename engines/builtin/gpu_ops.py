"""The Ops table of a GPU: Triton kernels over memory that the framework owns."""

from typing import Any

from detrec.engines.builtin.cpu_ops import named
from detrec.engines.builtin.gpu_inputs import DeviceBatch
from detrec.engines.ops import Ops
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import add as adding
from detrec.kernels.gpu import attention as attending
from detrec.kernels.gpu import embedding as embedding_rows
from detrec.kernels.gpu import kv_write as kv_writing
from detrec.kernels.gpu import matmul as multiplying
from detrec.kernels.gpu import penalties as penalising
from detrec.kernels.gpu import rms_norm as norming
from detrec.kernels.gpu import rope as rotating
from detrec.kernels.gpu import sample as sampling
from detrec.kernels.gpu import silu_mul as gating
from detrec.kernels.gpu import softmax as normalising
from detrec.kernels.workspace import DeviceWorkspace


def gpu_ops(device: Device, workspace: DeviceWorkspace, dtype: str, head_dim: int) -> Ops:
    """Kernels that allocate their outputs, of `dtype`, from `workspace`."""
    empty = workspace.empty
    softmax_scratch = device.zeros(normalising.SCRATCH, "int64")

    @named(embedding_rows.KERNEL)
    def embedding(name: str, tokens: DeviceArray, table: DeviceArray) -> DeviceArray:
        return embedding_rows.embedding(tokens, table, empty((len(tokens), table.shape[1]), dtype))

    @named(norming.KERNEL)
    def rms_norm(name: str, x: DeviceArray, weight: DeviceArray, eps: float) -> DeviceArray:
        return norming.rms_norm(x, weight, eps, empty(x.shape, dtype))

    @named(multiplying.KERNEL)
    def matmul(name: str, x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None) -> DeviceArray:
        out = empty((len(x), len(weight)), "float32" if name == "logits" else dtype)
        return multiplying.matmul(x, weight, bias, out)

    @named(rotating.KERNEL)
    def rope(
        name: str, x: DeviceArray, positions: DeviceArray, cos: DeviceArray, sin: DeviceArray
    ) -> DeviceArray:
        return rotating.rope(x, positions, cos, sin, empty(x.shape, dtype))

    @named(kv_writing.KERNEL)
    def kv_write(
        name: str, k: DeviceArray, v: DeviceArray, cache: DeviceArray, slots: DeviceArray
    ) -> DeviceArray:
        return kv_writing.kv_write(k, v, cache, slots, empty((len(k), 2 * k.shape[1]), dtype))

    @named(attending.KERNEL)
    def attention(
        name: str, q: DeviceArray, cache: DeviceArray, batch: DeviceBatch, scale: float
    ) -> DeviceArray:
        return attending.attention(
            *(q, cache, batch.block_tables, batch.row_seq, batch.positions, batch.plan, batch.table, scale),
            *(empty(q.shape, dtype), batch.scratch, head_dim),
        )

    @named("one rank: its input")
    def all_reduce(name: str, x: DeviceArray) -> DeviceArray:
        return x

    @named(adding.KERNEL)
    def add(name: str, x: DeviceArray, y: DeviceArray) -> DeviceArray:
        return adding.add(x, y, empty(x.shape, dtype))

    @named(gating.KERNEL)
    def silu_mul(name: str, x: DeviceArray) -> DeviceArray:
        return gating.silu_mul(x, empty((len(x), x.shape[1] // 2), dtype))

    @named(penalising.KERNEL)
    def penalise(name: str, logits: DeviceArray, by: Any) -> DeviceArray:
        return penalising.penalise(
            *(logits, by.ids, by.offsets, by.output_counts, by.in_prompt),
            *(by.repetition, by.presence, by.frequency, by.ban_ids, by.ban_offsets),
            empty(logits.shape, "float32"),
        )

    @named(normalising.KERNEL)
    def log_softmax(name: str, x: DeviceArray) -> DeviceArray:
        return normalising.log_softmax(x, empty(x.shape, "float32"), softmax_scratch)

    @named(sampling.KERNEL)
    def sample(name: str, logprobs: DeviceArray, by: Any) -> DeviceArray:
        scratch = empty((sampling.scratch_bytes(*logprobs.shape),), "uint8")
        return sampling.sample(
            *(logprobs, by.temperature, by.top_k, by.top_p, by.min_p, by.seed, by.counter),
            *(empty((len(logprobs), 4), "int64"), scratch),
        )

    return Ops(
        embedding=embedding,
        rms_norm=rms_norm,
        matmul=matmul,
        rope=rope,
        kv_write=kv_write,
        attention=attention,
        all_reduce=all_reduce,
        add=add,
        silu_mul=silu_mul,
        penalise=penalise,
        log_softmax=log_softmax,
        sample=sample,
    )
