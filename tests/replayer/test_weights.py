"""Which tensor changed: found in memory to the bit, on disk by its digest."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.kernels.cpu.packed import PackedWeight
from detrec.replayer.findings import Weight
from detrec.replayer.weights import changed_in_memory, changed_on_disk, tensors_of
from tests.replayer.moments import moments

MODELS = ("qwen2-tiny", "qwen3-tiny", "llama-tiny")


@pytest.mark.parametrize("model", MODELS)
def test_the_ops_of_a_step_name_every_tensor_of_the_model(model):
    shapes = SeededCheckpoint(model).config.shapes()
    found = moments(model=model)
    named = {
        tensor
        for name in found
        for argument in ("weight", "bias", "table")
        for tensor in tensors_of(name, argument, shapes)
    }
    assert named == set(shapes)
    assert tensors_of("1.act", "x", shapes) == tensors_of("1.attn", "scale", shapes) == ()


@pytest.mark.parametrize("model", MODELS)
def test_named_tensors_have_the_size_of_what_the_op_was_given(model):
    shapes = SeededCheckpoint(model).config.shapes()
    for name, moment in moments(model=model).items():
        if moment.field == "matmul":
            stacked = tensors_of(name, "weight", shapes)
            assert sum(shapes[tensor][0] for tensor in stacked) == moment.args[1].shape[0]
            assert {shapes[tensor][1] for tensor in stacked} == {moment.args[1].shape[1]}


def flipped(moment, index: int, *places: tuple[int, int, int]):
    """The moment with bits (row, column, bit) of one of its weights turned."""
    value = moment.args[index]
    plain = value.unpacked() if isinstance(value, PackedWeight) else value.copy()
    words = plain.view(f"u{plain.dtype.itemsize}").reshape(len(plain), -1)
    for row, column, bit in places:
        words[row, column] ^= words.dtype.type(1 << bit)
    args = list(moment.args)
    args[index] = plain
    return replace(moment, args=tuple(args))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_bit_is_named_with_its_tensor_and_element(dtype):
    whole, found = Cut(SeededCheckpoint("qwen2-tiny").config), moments(dtype=dtype)
    qkv, down, norm = found["2.qkv"], found["3.down_partial"], found["0.attn_norm"]
    plain = replace(qkv, args=(qkv.args[0], qkv.args[1].unpacked(), qkv.args[2]))
    down_plain = replace(down, args=(down.args[0], down.args[1].unpacked(), None))
    assert changed_in_memory(plain, flipped(qkv, 1), whole) == ()
    # 128 rows of q, then 64 of k, then 64 of v
    at = "model.layers.2.self_attn."
    assert changed_in_memory(plain, flipped(qkv, 1, (130, 7, 14)), whole) == (
        Weight(at + "k_proj.weight", 1, 2 * 128 + 7, 14),
    )
    biased = flipped(plain, 2, (255, 0, 31))
    assert changed_in_memory(plain, biased, whole) == (Weight(at + "v_proj.bias", 1, 63, 31),)
    assert changed_in_memory(down_plain, flipped(down, 1, (127, 255, 0)), whole) == (
        Weight("model.layers.3.mlp.down_proj.weight", 1, 128 * 256 - 1, 0),
    )
    assert changed_in_memory(norm, flipped(norm, 1, (5, 0, 3)), whole) == (
        Weight("model.layers.0.input_layernorm.weight", 1, 5, 3),
    )


def test_more_than_one_bit_is_counted():
    whole = Cut(SeededCheckpoint("qwen2-tiny").config)
    moment = moments()["1.gate_up"]
    plain = replace(moment, args=(moment.args[0], moment.args[1].unpacked(), None))
    found = changed_in_memory(
        plain, flipped(moment, 1, (0, 0, 1), (0, 0, 2), (256, 3, 4), (300, 3, 4)), whole
    )
    assert found == (
        Weight("model.layers.1.mlp.gate_proj.weight", 1, 0, None),
        Weight("model.layers.1.mlp.up_proj.weight", 2),
    )


def test_weights_of_other_dtypes_are_not_compared():
    whole = Cut(SeededCheckpoint("qwen2-tiny").config)
    one, other = moments()["1.qkv"], moments(dtype="bfloat16")["1.qkv"]
    assert changed_in_memory(one, other, whole) == ()


DIGESTS = {"a": "1" * 16, "b": "2" * 16}


@pytest.mark.parametrize(
    ("recorded", "replayed", "found"),
    [
        pytest.param({"model_digest": "x"}, {"model_digest": "x"}, (), id="one model"),
        pytest.param({"model_digest": "x"}, {"model_digest": "y"}, None, id="no digests of tensors"),
        pytest.param(
            {"model_digest": "x", "tensor_digests": DIGESTS},
            {"model_digest": "y", "tensor_digests": {**DIGESTS, "b": "3" * 16}},
            (Weight("b"),),
            id="one tensor",
        ),
        pytest.param(
            {"model_digest": "x", "tensor_digests": DIGESTS},
            {"model_digest": "y", "tensor_digests": {"a": "1" * 16}},
            None,
            id="other tensors",
        ),
        pytest.param({}, {}, None, id="another engine"),
    ],
)
def test_digests_of_two_manifests(recorded, replayed, found):
    assert changed_on_disk({"engine": recorded}, {"engine": replayed}) == found


def test_a_manifest_without_an_engine_says_nothing():
    assert changed_on_disk({}, {}) is None


def test_nan_in_a_weight_is_no_difference():
    whole = Cut(SeededCheckpoint("qwen2-tiny").config)
    moment = moments()["0.attn_norm"]
    weight = moment.args[1].copy()
    weight[3] = np.nan
    odd = replace(moment, args=(moment.args[0], weight, moment.args[2]))
    assert changed_in_memory(odd, replace(odd, args=(odd.args[0], weight.copy(), odd.args[2])), whole) == ()
