"""The Ops table of a CPU: numba kernels over memory that the framework owns."""

from collections.abc import Callable
from typing import Any

import numpy as np

from detrec.engines.builtin.batch import Batch, Draws, Penalties
from detrec.engines.ops import Op, Ops
from detrec.kernels.cpu import add as adding
from detrec.kernels.cpu import attention as attending
from detrec.kernels.cpu import embedding as embedding_rows
from detrec.kernels.cpu import kv_write as kv_writing
from detrec.kernels.cpu import matmul as multiplying
from detrec.kernels.cpu import penalties as penalising
from detrec.kernels.cpu import rms_norm as norming
from detrec.kernels.cpu import rope as rotating
from detrec.kernels.cpu import sample as sampling
from detrec.kernels.cpu import silu_mul as gating
from detrec.kernels.cpu import softmax as normalising
from detrec.kernels.workspace import Workspace


def named(kernel: str) -> Callable[[Callable[..., Any]], Op]:
    """Give an op the name of the kernel it runs."""

    def give(op: Callable[..., Any]) -> Op:
        op.kernel = kernel  # type: ignore[attr-defined]
        return op

    return give


def cpu_ops(workspace: Workspace, dtype: np.dtype) -> Ops:
    """Kernels that allocate their outputs, of `dtype` (float32, or uint16 for bfloat16), from `workspace`."""
    empty = workspace.empty
    float32 = np.dtype(np.float32)

    @named(embedding_rows.KERNEL)
    def embedding(name: str, tokens: np.ndarray, table: Any) -> np.ndarray:
        out = empty((len(tokens), table.shape[1]), dtype)
        embedding_rows.embedding(tokens, table, out)
        return out

    @named(norming.KERNEL)
    def rms_norm(name: str, x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
        out = empty(x.shape, dtype)
        norming.rms_norm(x, weight, eps, out)
        return out

    @named(multiplying.KERNEL)
    def matmul(name: str, x: np.ndarray, weight: Any, bias: np.ndarray | None) -> np.ndarray:
        out = empty((len(x), weight.shape[0]), float32 if name == "logits" else dtype)
        multiplying.matmul(x, weight, bias, out)
        return out

    @named(rotating.KERNEL)
    def rope(name: str, x: np.ndarray, positions: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        out = empty(x.shape, dtype)
        rotating.rope(x, positions, cos, sin, out)
        return out

    @named(kv_writing.KERNEL)
    def kv_write(name: str, k: np.ndarray, v: np.ndarray, cache: np.ndarray, slots: np.ndarray) -> np.ndarray:
        out = empty((len(k), 2 * k.shape[1]), dtype)
        kv_writing.kv_write(k, v, cache, slots, out)
        return out

    @named(attending.KERNEL)
    def attention(name: str, q: np.ndarray, cache: np.ndarray, batch: Batch, scale: float) -> np.ndarray:
        out = empty(q.shape, dtype)
        attending.attention(q, cache, batch.block_tables, batch.row_seq, batch.positions, scale, out)
        return out

    @named("one rank: its input")
    def all_reduce(name: str, x: np.ndarray) -> np.ndarray:
        return x

    @named(adding.KERNEL)
    def add(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        out = empty(x.shape, dtype)
        adding.add(x, y, out)
        return out

    @named(gating.KERNEL)
    def silu_mul(name: str, x: np.ndarray) -> np.ndarray:
        out = empty((len(x), x.shape[1] // 2), dtype)
        gating.silu_mul(x, out)
        return out

    @named(penalising.KERNEL)
    def penalise(name: str, logits: np.ndarray, by: Penalties) -> np.ndarray:
        out = empty(logits.shape, float32)
        penalising.penalise(
            *(logits, by.ids, by.offsets, by.output_counts, by.in_prompt),
            *(by.repetition, by.presence, by.frequency, by.ban_ids, by.ban_offsets, out),
        )
        return out

    @named(normalising.KERNEL)
    def log_softmax(name: str, x: np.ndarray) -> np.ndarray:
        out = empty(x.shape, float32)
        normalising.log_softmax(x, out)
        return out

    @named(sampling.KERNEL)
    def sample(name: str, logprobs: np.ndarray, by: Draws) -> np.ndarray:
        out = empty((len(logprobs),), sampling.SAMPLE_DTYPE)
        sampling.sample(logprobs, by.temperature, by.top_k, by.top_p, by.min_p, by.seed, by.counter, out)
        return out

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
