"""The operations that ranks do together: sums over ranks, and tables that are cut by vocabulary."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from detrec.engines.builtin.table import Empty, Kernel
from detrec.engines.ops import Ops, named
from detrec.kernels.group import Group
from detrec.kernels.leaves import LEAVES


@dataclass(frozen=True, slots=True)
class Parallel:
    """The ranks of an Ops table. `group` is None where there is one; `vocab_size` is the whole model's.

    `reduction`: "ranks" adds each rank's partial sum, of the engine's dtype, in rank order. "tp_invariant"
    makes LEAVES sums of K on as many ranks as there are, and adds them in float32 in one tree.
    """

    group: Group | None
    reduction: str
    vocab_size: int

    @property
    def rank(self) -> int:
        """Which one this is."""
        return self.group.rank if self.group else 0

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.group.world_size if self.group else 1

    @property
    def invariant(self) -> bool:
        """Whether any number of ranks gives the same bits."""
        return self.reduction == "tp_invariant"

    @property
    def order(self) -> str:
        """How partial sums are added: one of `kernels.group.ORDERS`."""
        return "tree" if self.invariant else "ranks"

    @property
    def leaves(self) -> int:
        """How many of the LEAVES sums are this rank's."""
        return LEAVES // self.size


@dataclass(frozen=True, slots=True)
class RankKernels:
    """What ranks of a device run besides what one alone does; each function is given its output last.

    `leaves_name` and `sum_name` name what runs for so many leaves, and for an order and so many ranks.
    """

    embedding_part: Kernel
    leaves_name: Callable[[int], str]
    matmul_leaves: Callable[..., Any]
    sum_name: Callable[[str, int], str]
    rounded: Callable[[Any, Any], Any]


def parallel_ops(ops: Ops, kernels: RankKernels, empty: Empty, dtype: Any, parallel: Parallel) -> Ops:
    """`ops`, which know of one rank, as those of one of `parallel.size` ranks."""
    if parallel.invariant:
        ops = _by_leaves(ops, kernels, empty, dtype, parallel.leaves)
    group = parallel.group
    return _together(ops, kernels, empty, dtype, parallel, group) if group else ops


def _by_leaves(ops: Ops, kernels: RankKernels, empty: Empty, dtype: Any, leaves: int) -> Ops:
    """Partial sums in float32, as subtrees of the one tree over K; of one rank they are the whole sum."""
    plain, by_leaves = ops.matmul.kernel, kernels.leaves_name(leaves)

    @named(plain)
    def matmul(name: str, x: Any, weight: Any, bias: Any) -> Any:
        if not name.endswith("_partial"):
            matmul.kernel = plain
            return ops.matmul(name, x, weight, bias)
        matmul.kernel = by_leaves
        out = empty((len(x), weight.shape[0]), "float32")
        return kernels.matmul_leaves(x, weight, out, leaves=leaves)

    @named(kernels.sum_name("tree", 1))
    def all_reduce(name: str, x: Any) -> Any:
        return x if x.dtype == dtype else kernels.rounded(x, empty(x.shape, dtype))

    return replace(ops, matmul=matmul, all_reduce=all_reduce)


def _together(
    ops: Ops, kernels: RankKernels, empty: Empty, dtype: Any, parallel: Parallel, group: Group
) -> Ops:
    """Sums over ranks, and tables that are cut by vocabulary."""

    @named(kernels.sum_name(parallel.order, group.world_size))
    def all_reduce(name: str, x: Any) -> Any:
        return group.all_reduce(x, empty(x.shape, dtype), order=parallel.order)

    @named(kernels.embedding_part.name)
    def embedding(name: str, tokens: Any, table: Any) -> Any:
        # each rank gives the rows of its part of the vocabulary, and one of them has each row
        rows, width = table.shape
        part = empty((len(tokens), width), dtype)
        kernels.embedding_part.run(tokens, table, group.rank * rows, part)
        return group.all_reduce(part, empty(part.shape, dtype), order="ranks")

    @named(ops.matmul.kernel)
    def matmul(name: str, x: Any, weight: Any, bias: Any) -> Any:
        out = ops.matmul(name, x, weight, bias)
        matmul.kernel = ops.matmul.kernel
        if name == "logits":
            # every rank has those of its part of the vocabulary
            out = group.all_gather(out, empty((len(x), parallel.vocab_size), out.dtype))
        return out

    return replace(ops, all_reduce=all_reduce, embedding=embedding, matmul=matmul)
