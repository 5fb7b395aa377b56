"""The operations a model may run, and how they are watched.

Recording wraps the table, a fault replaces an entry, and an engine that is not recorded is passed the
table as it is: not recording costs nothing.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast

from detrec.engines.base import Probe


class Op(Protocol):
    """Takes the name the trace will know its output by, then tensors: `matmul("14.qkv", x, w)`."""

    @property
    def kernel(self) -> str:
        """The kernel and configuration that the latest call ran."""
        ...

    def __call__(self, name: str, *args: Any) -> Any: ...


class NamedOp(Op, Protocol):
    """An Op that may be given another name where it runs another kernel."""

    kernel: str


def named(kernel: str) -> Callable[[Callable[..., Any]], NamedOp]:
    """Make an op of a function, by the name of the kernel it runs."""

    def give(run: Callable[..., Any]) -> NamedOp:
        op = cast(NamedOp, run)
        op.kernel = kernel
        return op

    return give


@dataclass(frozen=True, slots=True)
class Ops:
    """Every operation a model may run. R rows in the step, S rows that sample, widths as in the model.

    embedding(name, tokens int64 [R], table)            -> [R, H]
    rms_norm(name, x [R, G*C], weight [C], eps)         -> [R, G*C], each group of C by itself
    matmul(name, x [R, K], weight (N, K), bias|None)    -> [R, N]
    rope(name, x [R, heads*D], positions, cos, sin)     -> [R, heads*D]
    kv_write(name, k, v, cache, slots)                  -> [R, 2*KV], read back from the cache
    attention(name, q, cache, batch, scale)             -> [R, heads*D]
    all_reduce(name, x)                                 -> x summed over ranks in rank order
    add(name, x, y)                                     -> x + y
    silu_mul(name, x [R, 2*F])                          -> silu(x[:, :F]) * x[:, F:]
    penalise(name, logits [S, V], penalties)            -> float32 [S, V]
    log_softmax(name, x [S, V])                         -> float32 [S, V]
    sample(name, logprobs [S, V], draws)                -> SAMPLE_DTYPE [S]
    """

    embedding: Op
    rms_norm: Op
    matmul: Op
    rope: Op
    kv_write: Op
    attention: Op
    all_reduce: Op
    add: Op
    silu_mul: Op
    penalise: Op
    log_softmax: Op
    sample: Op


def _watch(op: Op, probe: Probe, names: Collection[str], rank: int) -> Op:
    tell = probe.op

    @named(op.kernel)
    def watched_op(name: str, *args: Any) -> Any:
        output = op(name, *args)
        watched_op.kernel = op.kernel
        if name in names:
            tell(name, output, rank, watched_op.kernel)
        return output

    return watched_op


def watched(ops: Ops, probe: Probe, names: Collection[str], rank: int = 0) -> Ops:
    """The same operations, each telling `probe` its output when its name is in `names`."""
    return Ops(**{f.name: _watch(getattr(ops, f.name), probe, names, rank) for f in fields(Ops)})
