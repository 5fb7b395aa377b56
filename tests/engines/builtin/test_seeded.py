"""Weights made from a seed."""

import hashlib

import numpy as np
import pytest

from detrec.engines.builtin.seeded import NAMES, SeededCheckpoint
from detrec.errors import ModelError

# float32 in hex of elements 0, 1 and -1: if one moves, raise SEEDED_VERSION with it
GOLDEN = {
    ("qwen2-tiny", "model.embed_tokens.weight"): ("0x1.66faa2p-5", "-0x1.fbbff2p-4", "0x1.536708p-2"),
    ("qwen2-tiny", "model.norm.weight"): ("0x1.ebd09ap-1", "0x1.1dbeaap+0", "0x1.dd75a0p-1"),
    ("qwen3-tiny", "model.layers.3.self_attn.q_proj.weight"): (
        "0x1.58a138p-5",
        "0x1.35d32cp-4",
        "-0x1.87018ap-6",
    ),
    ("llama-tiny", "model.layers.3.self_attn.q_proj.weight"): (
        "-0x1.d0b91ap-3",
        "0x1.361d48p-4",
        "0x1.0102aep-5",
    ),
}
MASK = (1 << 64) - 1


def scalar_draw(key, index):
    """Weight `index` in plain integers, as an odd multiple of 2^-24 in (-1, 1)."""
    state = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    z = (state + (index // 2 + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    z ^= z >> 31
    half = (z >> 32 if index % 2 else z) & 0xFFFFFFFF
    signed = half - (1 << 32) if half >> 31 else half
    return (signed >> 7 | 1) * 2.0**-24


@pytest.mark.parametrize(("model", "name"), GOLDEN)
def test_weights_are_these_bits_on_every_machine(model, name):
    values = SeededCheckpoint(model).tensor(name).ravel()[[0, 1, -1]].tolist()
    assert values == [float.fromhex(text) for text in GOLDEN[model, name]]


def test_a_whole_tensor_is_these_bits():
    data = SeededCheckpoint("qwen2-tiny").tensor("model.embed_tokens.weight").tobytes()
    assert hashlib.blake2b(data, digest_size=8).hexdigest() == "5799022fc4a546ec"


# 32767 and 32768: the last weight of one pass and the first of the next
@pytest.mark.parametrize("index", [0, 1, 2, 32767, 32768, 65535])
def test_the_vectorised_generator_is_splitmix64(index):
    values = SeededCheckpoint("qwen2-tiny").tensor("model.embed_tokens.weight").ravel()
    bound = np.float32(3 * (3 / 128) ** 0.5)
    draw = np.float32(scalar_draw("qwen2-tiny/model.embed_tokens.weight", index))
    assert values[index] == draw * bound


@pytest.mark.parametrize("model", ["qwen2-tiny", "qwen3-tiny", "llama-tiny"])
def test_a_checkpoint_has_every_tensor_of_its_shape(model):
    checkpoint = SeededCheckpoint(model)
    for name, shape in checkpoint.config.shapes().items():
        values = checkpoint.tensor(name)
        assert values.shape == shape
        assert values.dtype == np.float32
        centre = (
            2.5 if name.endswith(("q_norm.weight", "k_norm.weight")) else float(name.endswith("norm.weight"))
        )
        assert abs(values.mean() - centre) < 0.1


def test_tensors_differ_by_name_and_by_model():
    qwen, llama = SeededCheckpoint("qwen2-tiny"), SeededCheckpoint("llama-tiny")
    layers = [qwen.tensor(f"model.layers.{i}.mlp.up_proj.weight") for i in range(4)]
    layers.append(llama.tensor("model.layers.0.mlp.up_proj.weight"))
    assert len({layer.tobytes() for layer in layers}) == 5


def test_bfloat16_is_the_rounded_float32():
    checkpoint = SeededCheckpoint("llama-tiny")
    bits = checkpoint.tensor("model.norm.weight", "bfloat16")
    assert bits.dtype == np.uint16
    widened = (bits.astype(np.uint32) << 16).view(np.float32)
    # half of bfloat16's step between 1 and 2
    assert np.abs(widened - checkpoint.tensor("model.norm.weight")).max() <= 2.0**-8


def test_the_digest_tells_models_apart():
    assert len({SeededCheckpoint(name).digest() for name in NAMES}) == len(NAMES)
    assert SeededCheckpoint("qwen2-tiny").digest() == SeededCheckpoint("qwen2-tiny").digest()


def test_a_tensor_it_lacks_is_a_mistake_in_code():
    with pytest.raises(ValueError, match=r"no tensor 'lm_head.weight'"):
        SeededCheckpoint("qwen2-tiny").tensor("lm_head.weight")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ModelError, match="builtin:qwen2-tny: no such built-in model") as caught:
        SeededCheckpoint("qwen2-tny")
    assert caught.value.hint == "did you mean builtin:qwen2-tiny?"
    with pytest.raises(ModelError) as caught:
        SeededCheckpoint("gpt")
    assert "smollm2-135m" in caught.value.hint
