"""The Ops table of a CPU: numba kernels over memory that the framework owns."""

import numpy as np

from detrec.engines.builtin.batch import Batch, Draws
from detrec.engines.builtin.parallel import RankKernels
from detrec.engines.builtin.table import Kernel, ops_of
from detrec.engines.ops import Ops, named
from detrec.kernels.cpu import add as adding
from detrec.kernels.cpu import all_reduce as reducing
from detrec.kernels.cpu import attention as attending
from detrec.kernels.cpu import embedding as embedding_rows
from detrec.kernels.cpu import kv_write as kv_writing
from detrec.kernels.cpu import matmul as multiplying
from detrec.kernels.cpu import matmul_leaves as leaving
from detrec.kernels.cpu import penalties as penalising
from detrec.kernels.cpu import rms_norm as norming
from detrec.kernels.cpu import rope as rotating
from detrec.kernels.cpu import sample as sampling
from detrec.kernels.cpu import silu_mul as gating
from detrec.kernels.cpu import softmax as normalising
from detrec.kernels.workspace import Workspace

_ALONE = np.zeros(1, np.int64)


def cpu_ops(workspace: Workspace, dtype: np.dtype) -> Ops:
    """Kernels that allocate their outputs, of `dtype` (float32, or uint16 for bfloat16), from `workspace`."""

    def attention(
        q: np.ndarray, cache: np.ndarray, batch: Batch, scale: float, out: np.ndarray
    ) -> np.ndarray:
        return attending.attention(q, cache, batch.block_tables, batch.row_seq, batch.positions, scale, out)

    @named(sampling.KERNEL)
    def sample(name: str, logprobs: np.ndarray, by: Draws) -> np.ndarray:
        out = workspace.empty((len(logprobs),), sampling.SAMPLE_DTYPE)
        sampling.sample(logprobs, by.temperature, by.top_k, by.top_p, by.min_p, by.seed, by.counter, out)
        return out

    return ops_of(
        *(workspace.empty, dtype),
        embedding=Kernel(embedding_rows.KERNEL, embedding_rows.embedding),
        rms_norm=Kernel(norming.KERNEL, norming.rms_norm),
        matmul=Kernel(multiplying.KERNEL, multiplying.matmul),
        rope=Kernel(rotating.KERNEL, rotating.rope),
        kv_write=Kernel(kv_writing.KERNEL, kv_writing.kv_write),
        attention=Kernel(attending.KERNEL, attention),
        add=Kernel(adding.KERNEL, adding.add),
        silu_mul=Kernel(gating.KERNEL, gating.silu_mul),
        penalise=Kernel(penalising.KERNEL, penalising.penalise),
        log_softmax=Kernel(normalising.KERNEL, normalising.log_softmax),
        sample=sample,
    )


def _rounded(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    reducing.add_up(x.reshape(1, 1, -1), 0, _ALONE, True, 0, x.size, out.reshape(-1))
    return out


CPU_RANKS = RankKernels(
    embedding_part=Kernel(embedding_rows.KERNEL, embedding_rows.embedding_part),
    leaves_name=leaving.kernel,
    matmul_leaves=leaving.matmul_leaves,
    sum_name=reducing.kernel,
    rounded=_rounded,
)
