"""The Ops table of either device: its kernels, and the output that an op gives each of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from detrec.engines.ops import Op, Ops, named

Empty = Callable[[tuple[int, ...], Any], Any]
"""Gives an array of a shape and a dtype, out of a workspace."""


class Kernel(NamedTuple):
    """`run` takes an op's arguments, then the output that it fills and gives back."""

    name: str
    run: Callable[..., Any]


def ops_of(
    empty: Empty, dtype: Any, *,
    embedding: Kernel, rms_norm: Kernel, matmul: Kernel, rope: Kernel, kv_write: Kernel, attention: Kernel,
    add: Kernel, silu_mul: Kernel, penalise: Kernel, log_softmax: Kernel, sample: Op,
) -> Ops:  # fmt: skip
    """Ops by these kernels. Outputs are of `dtype`; logits and what is made of them are float32.

    `penalise` takes the fields of `Penalties` in their order. One rank has nothing to sum.
    """

    def op(kernel: Kernel, shape: Callable[..., tuple[int, ...]], kind: Any = dtype) -> Op:
        @named(kernel.name)
        def run(name: str, *args: Any) -> Any:
            return kernel.run(*args, empty(shape(*args), kind))

        return run

    @named(matmul.name)
    def multiplied(name: str, x: Any, weight: Any, bias: Any) -> Any:
        kind = "float32" if name == "logits" else dtype
        return matmul.run(x, weight, bias, empty((len(x), weight.shape[0]), kind))

    @named(penalise.name)
    def penalised(name: str, logits: Any, by: Any) -> Any:
        return penalise.run(
            *(logits, by.ids, by.offsets, by.output_counts, by.in_prompt, by.repetition),
            *(by.presence, by.frequency, by.ban_ids, by.ban_offsets, empty(logits.shape, "float32")),
        )

    @named("one rank: its input")
    def all_reduce(name: str, x: Any) -> Any:
        return x

    return Ops(
        embedding=op(embedding, lambda tokens, table: (len(tokens), table.shape[1])),
        rms_norm=op(rms_norm, _as_first),
        matmul=multiplied,
        rope=op(rope, _as_first),
        kv_write=op(kv_write, lambda k, *_: (len(k), 2 * k.shape[1])),
        attention=op(attention, _as_first),
        all_reduce=all_reduce,
        add=op(add, _as_first),
        silu_mul=op(silu_mul, lambda x: (len(x), x.shape[1] // 2)),
        penalise=penalised,
        log_softmax=op(log_softmax, _as_first, "float32"),
        sample=sample,
    )


def _as_first(x: Any, *_: Any) -> Any:
    return x.shape
