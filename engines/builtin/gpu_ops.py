"""The Ops table of a GPU: Triton kernels over memory that the framework owns."""

from typing import Any

from detrec.engines.builtin.gpu_inputs import DeviceBatch
from detrec.engines.builtin.parallel import RankKernels
from detrec.engines.builtin.table import Kernel, ops_of
from detrec.engines.ops import Ops, named
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import add as adding
from detrec.kernels.gpu import all_reduce as reducing
from detrec.kernels.gpu import attention as attending
from detrec.kernels.gpu import embedding as embedding_rows
from detrec.kernels.gpu import kv_write as kv_writing
from detrec.kernels.gpu import matmul as multiplying
from detrec.kernels.gpu import matmul_leaves as leaving
from detrec.kernels.gpu import penalties as penalising
from detrec.kernels.gpu import rms_norm as norming
from detrec.kernels.gpu import rope as rotating
from detrec.kernels.gpu import rounded as rounding
from detrec.kernels.gpu import sample as sampling
from detrec.kernels.gpu import silu_mul as gating
from detrec.kernels.gpu import softmax as normalising
from detrec.kernels.workspace import DeviceWorkspace


def gpu_ops(device: Device, workspace: DeviceWorkspace, dtype: str, head_dim: int) -> Ops:
    """Kernels that allocate their outputs, of `dtype`, from `workspace`."""
    empty, softmax_scratch = workspace.empty, device.zeros(normalising.SCRATCH, "int64")

    def attention(
        q: DeviceArray, cache: DeviceArray, batch: DeviceBatch, scale: float, out: DeviceArray
    ) -> DeviceArray:
        return attending.attention(
            *(q, cache, batch.block_tables, batch.row_seq, batch.positions, batch.plan, batch.table, scale),
            *(out, batch.scratch, head_dim),
        )

    def log_softmax(x: DeviceArray, out: DeviceArray) -> DeviceArray:
        return normalising.log_softmax(x, out, softmax_scratch)

    @named(sampling.KERNEL)
    def sample(name: str, logprobs: DeviceArray, by: Any) -> DeviceArray:
        scratch = empty((sampling.scratch_bytes(*logprobs.shape),), "uint8")
        return sampling.sample(
            *(logprobs, by.temperature, by.top_k, by.top_p, by.min_p, by.seed, by.counter),
            *(empty((len(logprobs), 4), "int64"), scratch),
        )

    return ops_of(
        *(empty, dtype),
        embedding=Kernel(embedding_rows.KERNEL, embedding_rows.embedding),
        rms_norm=Kernel(norming.KERNEL, norming.rms_norm),
        matmul=Kernel(multiplying.KERNEL, multiplying.matmul),
        rope=Kernel(rotating.KERNEL, rotating.rope),
        kv_write=Kernel(kv_writing.KERNEL, kv_writing.kv_write),
        attention=Kernel(attending.KERNEL, attention),
        add=Kernel(adding.KERNEL, adding.add),
        silu_mul=Kernel(gating.KERNEL, gating.silu_mul),
        penalise=Kernel(penalising.KERNEL, penalising.penalise),
        log_softmax=Kernel(normalising.KERNEL, log_softmax),
        sample=sample,
    )


GPU_RANKS = RankKernels(
    embedding_part=Kernel(embedding_rows.KERNEL, embedding_rows.embedding_part),
    leaves_name=leaving.kernel,
    matmul_leaves=leaving.matmul_leaves,
    sum_name=reducing.kernel,
    rounded=rounding.rounded,
)
