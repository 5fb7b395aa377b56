"""ggml's tensor types as float32."""

import sys

import numpy as np
import pytest

from detrec.engines.builtin.bfloat16 import widened
from detrec.engines.builtin.gguf_quants import byte_size, dequantized
from detrec.errors import ModelError
from tests.bits import assert_same_bits

F32, F16, Q4_0, Q4_1, Q5_0, Q8_0, Q6_K, BF16 = 0, 1, 2, 3, 6, 8, 14, 30
# bytes of a block, and where its float16 numbers stand
BLOCKS = {Q4_0: (18, (0,)), Q4_1: (20, (0, 2)), Q8_0: (34, (0,)), Q5_0: (22, (0,)), Q6_K: (210, (208,))}


def random_blocks(kind, count):
    """Blocks of any bits at all, but with finite scales."""
    size, numbers = BLOCKS[kind]
    random = np.random.default_rng(11)
    data = random.integers(0, 256, (count, size), np.uint8)
    for place in numbers:
        data[:, place : place + 2] = random.standard_normal((count, 1)).astype("<f2").view(np.uint8)
    return data.reshape(-1)


# 4100 blocks: two passes of 2048, and a ragged one
@pytest.mark.parametrize("kind", [Q4_0, Q4_1, Q8_0])
@pytest.mark.parametrize("blocks", [1, 4100])
def test_gives_the_bits_of_the_gguf_package(kind, blocks):
    quants = pytest.importorskip("gguf.quants")
    import gguf

    data = random_blocks(kind, blocks)
    expected = quants.dequantize(data, gguf.GGMLQuantizationType(kind))
    assert_same_bits(dequantized(data, kind, (blocks, 32), "here"), expected.reshape(blocks, 32))


def test_q4_0_is_scale_times_nibble_less_eight():
    # nibbles 0 to 15 in the low halves, 15 to 0 in the high ones
    packed = bytes(low | (15 - low) << 4 for low in range(16))
    data = np.frombuffer(np.float16(0.5).tobytes() + packed, np.uint8)
    ramp = [0.5 * (q - 8) for q in range(16)]
    assert dequantized(data, Q4_0, (1, 32), "here").tolist() == [ramp + ramp[::-1]]


def test_q4_1_adds_its_minimum():
    data = np.frombuffer(np.array([0.5, -3], "<f2").tobytes() + bytes([0x21] * 16), np.uint8)
    assert dequantized(data, Q4_1, (32,), "here").tolist() == [-2.5] * 16 + [-2.0] * 16


def test_q8_0_is_scale_times_signed_byte():
    data = np.frombuffer(np.float16(2).tobytes() + bytes([0xFF, 0x80] * 16), np.uint8)
    assert dequantized(data, Q8_0, (1, 32), "here").tolist() == [[-2.0, -256.0] * 16]


def test_plain_types_are_widened():
    values = np.array([[1, -2.5], [3, 0.125]], np.float32)
    for kind, stored in ((F32, values), (F16, values.astype(np.float16))):
        assert_same_bits(dequantized(stored.reshape(-1).view(np.uint8), kind, (2, 2), "here"), values)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    assert_same_bits(widened(dequantized(bits.reshape(-1).view(np.uint8), BF16, (2, 2), "here")), values)


@pytest.mark.parametrize(("kind", "shape"), [(Q5_0, (3, 64)), (Q6_K, (2, 512))])
def test_other_types_go_through_the_gguf_package(kind, shape):
    quants = pytest.importorskip("gguf.quants")
    import gguf

    data = random_blocks(kind, byte_size(kind, shape, "here") // BLOCKS[kind][0])
    expected = quants.dequantize(data.reshape(shape[0], -1), gguf.GGMLQuantizationType(kind))
    assert_same_bits(dequantized(data, kind, shape, "here"), expected)


@pytest.mark.parametrize(
    ("kind", "size"), [(F32, 256), (F16, 128), (BF16, 128), (Q4_0, 36), (Q4_1, 40), (Q8_0, 68)]
)
def test_sizes(kind, size):
    assert byte_size(kind, (2, 32), "here") == size


def test_rows_of_broken_blocks_are_refused():
    with pytest.raises(ModelError, match=r"x.gguf: w: rows of 48 weights are not whole blocks of 32"):
        byte_size(Q4_0, (2, 48), "x.gguf: w")


def test_without_the_gguf_package_the_hint_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match="ggml type 14 is not one of F32, F16") as caught:
        byte_size(Q6_K, (1, 256), "here")
    assert caught.value.hint == "pip install 'detrec[gguf]'"


def test_a_type_nobody_knows_is_refused():
    pytest.importorskip("gguf")
    with pytest.raises(ModelError, match="unknown ggml type 250"):
        byte_size(250, (1, 256), "here")


def test_a_type_the_package_cannot_dequantise_is_refused():
    gguf = pytest.importorskip("gguf")
    kind = int(gguf.GGMLQuantizationType.I8)
    with pytest.raises(ModelError, match="I8: the gguf package cannot dequantise it"):
        dequantized(np.zeros(32, np.uint8), kind, (1, 32), "here")
