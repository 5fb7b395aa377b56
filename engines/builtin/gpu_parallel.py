"""The operations of a GPU that ranks do together: sums over ranks, and tables that are cut by vocabulary."""

from dataclasses import replace
from typing import Any

from detrec.engines.builtin.cpu_ops import named
from detrec.engines.builtin.parallel import Parallel
from detrec.engines.ops import Op, Ops
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import embedding as embedding_rows
from detrec.kernels.gpu import rounded as rounding
from detrec.kernels.gpu.all_reduce import kernel
from detrec.kernels.group import Group
from detrec.kernels.workspace import DeviceWorkspace


def gpu_parallel_ops(ops: Ops, workspace: DeviceWorkspace, dtype: str, parallel: Parallel) -> Ops:
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


def _by_leaves(whole: Op, workspace: DeviceWorkspace, parallel: Parallel) -> Op:
    """A matmul whose partial sums are float32, and subtrees of the one tree over K."""
    from detrec.kernels.gpu import matmul_leaves as leaving

    leaves = parallel.leaves
    plain, by_leaves = whole.kernel, leaving.kernel(leaves)  # type: ignore[attr-defined]

    def matmul(name: str, x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None) -> DeviceArray:
        if not name.endswith("_partial"):
            matmul.kernel = plain  # type: ignore[attr-defined]
            out: DeviceArray = whole(name, x, weight, bias)
            return out
        matmul.kernel = by_leaves  # type: ignore[attr-defined]
        out = workspace.empty((len(x), len(weight)), "float32")
        return leaving.matmul_leaves(x, weight, out, leaves=leaves)

    matmul.kernel = plain  # type: ignore[attr-defined]
    return matmul


def _rounded(workspace: DeviceWorkspace, dtype: str) -> Op:
    """A sum over one rank: its float32 as `dtype`."""

    @named(kernel("tree", 1))
    def all_reduce(name: str, x: DeviceArray) -> DeviceArray:
        return x if dtype == "float32" else rounding.rounded(x, workspace.empty(x.shape, dtype))

    return all_reduce


def _reduced(group: Group, workspace: DeviceWorkspace, dtype: str, order: str) -> Op:
    @named(kernel(order, group.world_size))
    def all_reduce(name: str, x: DeviceArray) -> DeviceArray:
        out: DeviceArray = group.all_reduce(x, workspace.empty(x.shape, dtype), order=order)
        return out

    return all_reduce


def _embedding(group: Group, workspace: DeviceWorkspace, dtype: str) -> Op:
    """Each rank gives the rows of its part of the vocabulary, and one of them has each row."""

    @named(embedding_rows.KERNEL)
    def embedding(name: str, tokens: DeviceArray, table: DeviceArray) -> DeviceArray:
        rows, width = table.shape
        part = workspace.empty((len(tokens), width), dtype)
        embedding_rows.embedding_part(tokens, table, group.rank * rows, part)
        out: DeviceArray = group.all_reduce(part, workspace.empty(part.shape, dtype), order="ranks")
        return out

    return embedding


def _gathered(local: Op, group: Group, workspace: DeviceWorkspace, vocab_size: int) -> Op:
    """A matmul that gives every rank the logits of all ranks' parts of the vocabulary."""

    def matmul(name: str, x: DeviceArray, weight: Any, bias: DeviceArray | None) -> DeviceArray:
        out: DeviceArray = local(name, x, weight, bias)
        matmul.kernel = local.kernel  # type: ignore[attr-defined]
        if name == "logits":
            out = group.all_gather(out, workspace.empty((len(x), vocab_size), out.dtype))
        return out

    matmul.kernel = local.kernel  # type: ignore[attr-defined]
    return matmul
