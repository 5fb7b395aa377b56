"""Embedding: rows of a packed table, as they are."""

import numpy as np
import pytest

from detrec.kernels.cpu.embedding import embedding
from detrec.kernels.cpu.packed import pack_weight
from tests.bits import assert_same_bits

TABLE = np.random.default_rng(5).standard_normal((70, 37), np.float32)
TOKENS = np.array([69, 0, 31, 32, 0], np.int64)


def test_gathers_rows_by_token():
    out = np.full((5, 37), np.nan, np.float32)
    assert_same_bits(embedding(TOKENS, pack_weight(TABLE), out), TABLE[TOKENS])


def test_bfloat16_is_widened_or_kept():
    bits = (TABLE.view(np.uint32) >> 16).astype(np.uint16)
    wide = (bits[TOKENS].astype(np.uint32) << 16).view(np.float32)
    assert_same_bits(embedding(TOKENS, pack_weight(bits), np.empty((5, 37), np.float32)), wide)
    assert_same_bits(embedding(TOKENS, pack_weight(bits), np.empty((5, 37), np.uint16)), bits[TOKENS])


def test_no_rows():
    assert embedding(TOKENS[:0], pack_weight(TABLE), np.empty((0, 37), np.float32)).shape == (0, 37)


@pytest.mark.parametrize("token", [-1, 70])
def test_rejects_a_token_that_is_not_in_the_table(token):
    with pytest.raises(ValueError, match="70 rows"):
        embedding(np.array([0, token]), pack_weight(TABLE), np.empty((2, 37), np.float32))


def test_rejects_out_of_another_shape():
    with pytest.raises(ValueError, match="do not give out"):
        embedding(TOKENS, pack_weight(TABLE), np.empty((5, 36), np.float32))
