"""The ops of a FastDeploy model: which module gives which, in causal order.

An op has the built-in engine's name where it means the same, so that traces of both compare. The residual
stream is not what a decoder layer returns but what the next norm has added up: its second output. A layer
that is not built of these modules is recorded by what it returns, `output` and `residual`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from detrec.engines.base import OpKind
from detrec.engines.hooks import Tap

_LAYER = re.compile(r"^(?P<stack>(?:.+\.)?layers)\.(?P<layer>\d+)$")
# op, module below the layer, its output
_INSIDE = (
    ("attn_norm", "input_layernorm", 0),
    ("qkv", "self_attn.qkv_proj", 0),
    ("attn", "self_attn.attn", 0),
    ("o_proj", "self_attn.o_proj", 0),
    ("attn_residual", "post_attention_layernorm", 1),
    ("mlp_norm", "post_attention_layernorm", 0),
    ("gate_up", "mlp.up_gate_proj", 0),
    ("act", "mlp.act_fn", 0),
    ("down_proj", "mlp.down_proj", 0),
)
_NEEDED = ("input_layernorm", "post_attention_layernorm", "self_attn.o_proj")
_REDUCED = {"o_proj": "o_partial", "down_proj": "down_partial", "embedding": "embedding_partial"}

_OWN = {"qkv", "attn", "gate_up", "act", *_REDUCED.values()}

OUTSIDE = ("logits", "sampled", "broadcast")
"""Ops that run outside the model's forward: CUDA graphs do not hide them."""


@dataclass(frozen=True, slots=True)
class Names:
    """`taps` give ops by forward hooks; `partials`, by module path, name what an all-reduce in it is given.

    `ops` are all of them and those OUTSIDE, in causal order.
    """

    taps: tuple[Tap, ...]
    partials: dict[str, str]
    ops: tuple[str, ...]


def names_of(paths: Iterable[str], ranks: int) -> Names:
    """The ops of a model whose modules have these dotted `paths`, on `ranks` ranks; no layers, no taps."""
    present = set(paths)
    layers = sorted(
        (int(match["layer"]), match["stack"]) for path in present if (match := _LAYER.match(path))
    )
    stacks = {stack for _, stack in layers}
    # a vision tower has layers of its own: the language model is the deepest stack
    stack = max(sorted(stacks), key=lambda name: sum(of == name for _, of in layers), default="")
    numbers = [number for number, of in layers if of == stack]
    base = stack.removesuffix("layers")
    found = [Tap("embedding", f"{base}embed_tokens")] if f"{base}embed_tokens" in present else []
    for number in numbers:
        found += _layer(f"{stack}.{number}", number, present, after=_next_norm(base, stack, number, numbers))
    if numbers and f"{base}norm" in present:
        found.append(Tap("final_norm", f"{base}norm"))
    partials = {
        tap.path: _partial(tap.op) for tap in found if ranks > 1 and tap.op.rpartition(".")[2] in _REDUCED
    }
    ops: list[str] = []
    for tap in found:
        ops += [partials[tap.path], tap.op] if tap.path in partials else [tap.op]
    outside = [op for op in OUTSIDE if op != "broadcast" or ranks > 1]
    return Names(tuple(found), partials, (*ops, *outside))


def kinds_of(ops: Iterable[str], ranks: int) -> tuple[OpKind, ...]:
    """What `ranks` ranks hold of each op.

    How FastDeploy lays a share out is its own business, so that one is treated as a summand is: compared rank
    by rank where both runs have as many, and not at all where they have not.
    """
    own = _OWN if ranks > 1 else set()
    return tuple(OpKind.PARTIAL if op.rpartition(".")[2] in own else OpKind.REPLICATED for op in ops)


def _partial(op: str) -> str:
    layer, dot, name = op.rpartition(".")
    return f"{layer}{dot}{_REDUCED[name]}"


def _next_norm(base: str, stack: str, number: int, numbers: list[int]) -> str:
    later = numbers[numbers.index(number) + 1 :]
    return f"{stack}.{later[0]}.input_layernorm" if later else f"{base}norm"


def _layer(path: str, number: int, present: set[str], after: str) -> list[Tap]:
    if not all(f"{path}.{needed}" in present for needed in (*_NEEDED,)) or after not in present:
        return [Tap(f"{number}.output", path, 0), Tap(f"{number}.residual", path, 1)]
    inside = [
        Tap(f"{number}.{op}", f"{path}.{below}", output)
        for op, below, output in _INSIDE
        if f"{path}.{below}" in present
    ]
    return [*inside, Tap(f"{number}.output", after, 1)]
