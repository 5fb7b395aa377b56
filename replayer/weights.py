"""Which tensors of the model are not the recorded ones: by the manifests' digests, and in memory.

Pure. Tensors carry Hugging Face's names; an element is counted from the tensor's first, row after row.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.weights import Checkpoint
from detrec.kernels.cpu.flipped_bit import flipped_bit
from detrec.kernels.cpu.packed import PackedWeight
from detrec.replayer.arguments import ARGUMENTS, bits, same_bits
from detrec.replayer.capture import Moment
from detrec.replayer.divergence import split_name
from detrec.replayer.findings import Weight

Shapes = Mapping[str, tuple[int, ...]]

_OUTSIDE = {
    "embedding": ("model.embed_tokens",),
    "final_norm": ("model.norm",),
    "logits": ("lm_head",),
}
_LAYER = {
    "attn_norm": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "o_partial": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down_partial": ("mlp.down_proj",),
}
_ENDS = {"weight": ".weight", "table": ".weight", "bias": ".bias"}


def tensors_of(op: str, argument: str, shapes: Shapes) -> tuple[str, ...]:
    """The tensors stacked in an argument of an op, () for one that is no tensor of the model."""
    layer, bare = split_name(op)
    stems = _OUTSIDE.get(bare, ()) if layer is None else _LAYER.get(bare, ())
    at = "" if layer is None else f"model.layers.{layer}."
    names = tuple(f"{at}{stem}{_ENDS[argument]}" for stem in stems if argument in _ENDS)
    if names == ("lm_head.weight",) and names[0] not in shapes:
        # tied: the embedding gives the logits
        return ("model.embed_tokens.weight",)
    return tuple(name for name in names if name in shapes)


def changed_in_memory(recorded: Moment, replayed: Moment, cut: Cut) -> tuple[Weight, ...]:
    """The tensors that one op was given with other bits in the two runs; both held what `cut` says.

    () too where they are not stored alike, and so cannot be compared.
    """
    found = []
    shapes = cut.local().shapes()
    for index, (argument, _) in enumerate(ARGUMENTS[recorded.field]):
        names = tensors_of(recorded.name, argument, shapes)
        ours, theirs = recorded.args[index], replayed.args[index]
        if not names or ours is None or theirs is None or same_bits(ours, theirs):
            continue
        left, right = _plain(ours), _plain(theirs)
        if left.shape != right.shape or left.dtype != right.dtype:
            continue
        start = 0
        for name in names:
            stop = start + shapes[name][0]
            if not same_bits(left[start:stop], right[start:stop]):
                found.append(_weight(name, left[start:stop], right[start:stop], cut))
            start = stop
    return tuple(found)


def changed_on_disk(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> tuple[Weight, ...] | None:
    """The tensors whose digests differ in the engine's part of two manifests.

    () where the model as a whole is the same, None where that is not and there are no digests to compare.
    """
    ours, theirs = (manifest.get("engine", {}) for manifest in (recorded, replayed))
    if ours.get("model_digest") is not None and ours.get("model_digest") == theirs.get("model_digest"):
        return ()
    left, right = ours.get("tensor_digests") or {}, theirs.get("tensor_digests") or {}
    if not left or left.keys() != right.keys():
        return None
    return tuple(Weight(name) for name in left if left[name] != right[name])


def model_digests(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> tuple[str, str] | None:
    """The model's digests in two manifests of one engine, where both have one and they differ.

    Engines digest as they like: between two of them, nothing can be told.
    """
    names = {manifest.get("config", {}).get("engine", {}).get("name") for manifest in (recorded, replayed)}
    ours, theirs = (manifest.get("engine", {}).get("model_digest") for manifest in (recorded, replayed))
    return (str(ours), str(theirs)) if len(names) == 1 and ours and theirs and ours != theirs else None


def located(weight: Weight, checkpoint: Checkpoint, recorded: Mapping[str, Any]) -> Weight:
    """`weight` with its element and bit, if one bit of it is what changed since `recorded`, a manifest.

    As it is where the file packs several elements into one number, or in another order than the model's.
    """
    digest = (recorded.get("engine", {}).get("tensor_digests") or {}).get(weight.name)
    data, shape = checkpoint.stored(weight.name), checkpoint.config.shapes().get(weight.name)
    if digest is None or data is None or not shape or not checkpoint.stores_plainly(weight.name):
        return weight
    place = flipped_bit(np.ascontiguousarray(data), int(digest, 16))
    if place is None:
        return weight
    element, bit = divmod(place, 8 * data.nbytes // math.prod(shape))
    return Weight(weight.name, 1, element, bit)


def _plain(value: Any) -> np.ndarray:
    return value.unpacked() if isinstance(value, PackedWeight) else np.asarray(value)


def _weight(name: str, recorded: np.ndarray, replayed: np.ndarray, cut: Cut) -> Weight:
    turned = (bits(recorded) ^ bits(replayed)).reshape(-1)
    at = np.flatnonzero(turned)
    if len(at) > 1:
        return Weight(name, len(at))
    word = int(turned[at[0]])
    # more bits than one of an element are no single bit
    bit = word.bit_length() - 1 if word.bit_count() == 1 else None
    return Weight(name, 1, cut.whole(name, int(at[0])), bit)
