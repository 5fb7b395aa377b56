"""Keys and values land in their slots, and what comes back is what the cache holds."""

import numpy as np
import pytest

from detrec.kernels.cpu.kv_write import kv_write
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats

KV = 24


def keys_and_values(rows: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Two slices of one wider matrix, as a fused projection gives them."""
    x = np.random.default_rng(2).standard_normal((rows, 100)).astype(np.float32)
    x = x if dtype is np.float32 else bfloat16(x)
    return x[:, 40 : 40 + KV], x[:, 70 : 70 + KV]


def empty_cache(dtype: type = np.float32, blocks: int = 5, block_size: int = 4) -> np.ndarray:
    """A cache of NaN."""
    return np.full((blocks, block_size, 2, KV), np.nan if dtype is np.float32 else 0x7FC1, dtype)


def written(k: np.ndarray, v: np.ndarray, cache: np.ndarray, slots: list[int]) -> np.ndarray:
    """What is read back, into memory that holds something else."""
    return kv_write(k, v, cache, np.array(slots, np.int64), np.full((len(k), 2 * KV), 77, cache.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_a_slot_is_a_place_in_a_block(dtype):
    k, v = keys_and_values(3, dtype)
    cache, expected = empty_cache(dtype), empty_cache(dtype)
    out = written(k, v, cache, [9, 0, 19])
    for row, (block, offset) in enumerate([(2, 1), (0, 0), (4, 3)]):
        expected[block, offset] = k[row], v[row]
    assert_same_bits(cache, expected)
    assert_same_bits(out, np.concatenate([k, v], axis=1))


def test_what_comes_back_is_what_the_cache_holds():
    """Two rows in one slot: the first row's keys are no longer there."""
    k, v = keys_and_values(2)
    out = written(k, v, empty_cache(), [6, 6])
    assert_same_bits(out[0], out[1])
    assert_same_bits(out[1], np.concatenate([k[1], v[1]]))


def test_a_bfloat16_cache_rounds_to_nearest_even_and_shows_it():
    k, v = keys_and_values(4)
    cache = empty_cache(np.uint16)
    out = kv_write(k, v, cache, np.arange(4), np.full((4, 2 * KV), np.nan, np.float32))
    assert_same_bits(cache[0, :, 0], bfloat16(k))
    assert_same_bits(out, floats(bfloat16(np.concatenate([k, v], axis=1))))


def test_a_row_does_not_see_its_batch():
    k, v = keys_and_values(8)
    together, alone = empty_cache(), empty_cache()
    slots = [3, 17, 4, 0, 11, 8, 2, 19]
    out = written(k, v, together, slots)
    for row in reversed(range(8)):
        assert_same_bits(
            written(k[row : row + 1], v[row : row + 1], alone, slots[row : row + 1])[0], out[row]
        )
    assert_same_bits(together, alone)


@pytest.mark.parametrize("slot", [-1, 20, 1 << 40])
def test_a_slot_that_is_not_there_stops_every_write(slot):
    k, v = keys_and_values(2)
    cache = empty_cache()
    with pytest.raises(ValueError, match=rf"^kv_write: row 1 has slot {slot}, the cache has 20$"):
        written(k, v, cache, [3, slot])
    assert_same_bits(cache, empty_cache())


def test_no_rows():
    k, v = keys_and_values(0)
    assert written(k, v, empty_cache(), []).shape == (0, 2 * KV)


GOOD = {
    "k": np.zeros((2, KV), np.float32),
    "v": np.zeros((2, KV), np.float32),
    "cache": empty_cache(),
    "slots": np.zeros(2, np.int64),
    "out": np.zeros((2, 2 * KV), np.float32),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("v", np.zeros((2, KV + 1), np.float32), id="values of another width"),
        pytest.param("k", np.zeros(KV, np.float32), id="a vector"),
        pytest.param("k", np.zeros((2, 2 * KV), np.float32)[:, ::2], id="elements at a stride"),
        pytest.param("cache", np.zeros((5, 4, 3, KV), np.float32), id="three planes"),
        pytest.param("cache", np.zeros((5, 4, 2, KV + 1), np.float32), id="a wider cache"),
        pytest.param("cache", empty_cache()[::2], id="blocks at a stride"),
        pytest.param("slots", np.zeros(3, np.int64), id="too many slots"),
        pytest.param("slots", np.zeros(2, np.int32), id="int32 slots"),
        pytest.param("out", np.zeros((2, KV), np.float32), id="half an output"),
    ],
)
def test_rejects(name, value):
    with pytest.raises(ValueError, match=r"^kv_write: "):
        kv_write(**{**GOOD, name: value})
