"""The operations of a CPU that ranks do together: sums over ranks, and tables that are cut by vocabulary."""

from dataclasses import replace
from typing import Any

import numpy as np

from detrec.engines.builtin.parallel import Parallel
from detrec.engines.ops import Op, Ops
from detrec.kernels.cpu import embedding as embedding_rows
from detrec.kernels.cpu.all_reduce import add_up, kernel
from detrec.kernels.group import Group
from detrec.kernels.workspace import Workspace

_FLOAT32 = np.dtype(np.float32)
_ALONE = np.zeros(1, np.int64)


def parallel_ops(ops: Ops, workspace: Workspace, dtype: np.dtype, parallel: Parallel) -> Ops:
    """`ops`, which know of one rank, as those of one of `parallel.size` ranks."""
    if parallel.invariant:
        ops = replace(
            ops, matmul=_by_leaves(ops.matmul, workspace, parallel), all_reduce=_rounded(workspace, dtype)
        )
    group = parallel.group
    if group is None:
        return ops
    return replace(
        ops,
        all_reduce=_reduced(group, workspace, dtype, parallel.order),
        embedding=_embedding(group, workspace, dtype),
        matmul=_gathered(ops.matmul, group, workspace, parallel.vocab_size),
    )


def _by_leaves(whole: Op, workspace: Workspace, parallel: Parallel) -> Op:
    """A matmul whose partial sums are float32, and subtrees of the one tree over K."""
    from detrec.kernels.cpu import matmul_leaves as leaving

    leaves = parallel.leaves
    plain, by_leaves = whole.kernel, leaving.kernel(leaves)  # type: ignore[attr-defined]

    def matmul(name: str, x: np.ndarray, weight: Any, bias: np.ndarray | None) -> np.ndarray:
        if not name.endswith("_partial"):
            matmul.kernel = plain  # type: ignore[attr-defined]
            return whole(name, x, weight, bias)
        matmul.kernel = by_leaves  # type: ignore[attr-defined]
        out = workspace.empty((len(x), weight.shape[0]), _FLOAT32)
        return leaving.matmul_leaves(x, weight, out, leaves=leaves)

    matmul.kernel = plain  # type: ignore[attr-defined]
    return matmul


def _rounded(workspace: Workspace, dtype: np.dtype) -> Op:
    """A sum over one rank: its float32 as `dtype`."""

    def all_reduce(name: str, x: np.ndarray) -> np.ndarray:
        if x.dtype == dtype:
            return x
        out = workspace.empty(x.shape, dtype)
        add_up(x.reshape(1, 1, -1), 0, _ALONE, True, 0, x.size, out.reshape(-1))
        return out

    all_reduce.kernel = kernel("tree", 1)  # type: ignore[attr-defined]
    return all_reduce


def _reduced(group: Group, workspace: Workspace, dtype: np.dtype, order: str) -> Op:
    def all_reduce(name: str, x: np.ndarray) -> np.ndarray:
        out: np.ndarray = group.all_reduce(x, workspace.empty(x.shape, dtype), order=order)
        return out

    all_reduce.kernel = kernel(order, group.world_size)  # type: ignore[attr-defined]
    return all_reduce


def _embedding(group: Group, workspace: Workspace, dtype: np.dtype) -> Op:
    """Each rank gives the rows of its part of the vocabulary, and one of them has each row."""

    def embedding(name: str, tokens: np.ndarray, table: Any) -> np.ndarray:
        rows, width = table.shape
        part = workspace.empty((len(tokens), width), dtype)
        embedding_rows.embedding_part(tokens, table, group.rank * rows, part)
        out: np.ndarray = group.all_reduce(part, workspace.empty(part.shape, dtype), order="ranks")
        return out

    embedding.kernel = embedding_rows.KERNEL  # type: ignore[attr-defined]
    return embedding


def _gathered(local: Op, group: Group, workspace: Workspace, vocab_size: int) -> Op:
    """A matmul that gives every rank the logits of all ranks' parts of the vocabulary."""

    def matmul(name: str, x: np.ndarray, weight: Any, bias: np.ndarray | None) -> np.ndarray:
        out: np.ndarray = local(name, x, weight, bias)
        matmul.kernel = local.kernel  # type: ignore[attr-defined]
        if name == "logits":
            out = group.all_gather(out, workspace.empty((len(x), vocab_size), out.dtype))
        return out

    matmul.kernel = local.kernel  # type: ignore[attr-defined]
    return matmul
