"""Embedding on the GPU: the table's rows to the bit, nothing read that is not there."""

import numpy as np
import pytest

from detrec.kernels.gpu.embedding import embedding, embedding_part
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("cols", [1, 576, 2500])
def test_gives_the_rows_of_the_tokens(cols, dtype):
    tokens = np.array([6, 0, 6, 3], np.int64)
    table = floats(rand(7, cols), dtype)
    out = embedding(device(tokens), table, fresh((4, cols), dtype))
    assert_same_bits(host(out), host(table)[tokens])


def test_a_token_that_the_table_lacks_is_zero():
    table = device(rand(8, 63))
    out = embedding(device(np.array([-1, 7, 1 << 40], np.int64)), table[:7], fresh((3, 63), "float32"))
    assert not host(out).any()


def test_no_rows():
    out = embedding(fresh((0,), "int64"), device(rand(7, 5)), fresh((0, 5), "float32"))
    assert host(out).shape == (0, 5)


def test_rejects_a_table_with_gaps():
    with pytest.raises(ValueError, match=r"embedding: table has shape \[7, 4\] and strides \[5, 1\]"):
        embedding(fresh((2,), "int64"), device(rand(7, 5))[:, :4], fresh((2, 4), "float32"))


def test_rejects_tokens_of_another_dtype():
    with pytest.raises(ValueError, match=r"embedding: tokens is int32 \[2\]"):
        embedding(fresh((2,), "int32"), device(rand(7, 5)), fresh((2, 5), "float32"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_part_of_the_table_gives_minus_zero_for_the_rest(dtype):
    """Which adds nothing, to the bit, to the row that another part gives: to a row with zeros too."""
    rows = rand(7, 63)
    rows[:, 5], rows[:, 6] = 0.0, -0.0
    table, tokens = floats(rows, dtype), device(np.array([6, 0, 2, 3, -1, 7], np.int64))
    part = host(embedding_part(tokens, table[2:5].reshape(3, 63), 2, fresh((6, 63), dtype)))
    assert_same_bits(part[2:4], host(table)[2:4])
    nothing = host(floats(np.full((4, 63), -0.0, np.float32), dtype))
    assert_same_bits(part[[0, 1, 4, 5]], nothing)
