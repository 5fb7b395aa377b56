"""The matmul for few rows: every tile means the same, and on a GPU has the same bits."""

import numpy as np
import pytest

from detrec.kernels.gpu.matmul_narrow import Tile, narrow_rows, reachable, tile_of
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import floats, fresh, host, values
from tests.kernels.gpu.rough import rough_floats

CHOSEN = sorted({tile_of(rows, cols, "bfloat16") for rows in (1, 32, 64, 300) for cols in (512, 8000, 9000)})

# not chosen by `tile_of`: one warp and eight, tensor-core instructions of a warp and of a warpgroup
OTHERS = [
    Tile(16, 16, 512, 1, 4, True), Tile(16, 128, 64, 8, 4, True), Tile(32, 16, 64, 1, 2, True),
    Tile(64, 16, 128, 4, 3, False), Tile(128, 64, 32, 8, 3, False), Tile(128, 256, 64, 8, 3, False),
]  # fmt: skip


@pytest.mark.parametrize("tile", [Tile(16, 16, 16, 1, 1, swapped) for swapped in (False, True)])
def test_matches_float64(tile):
    x, weight, bias = rough_floats(1, (3, 40), "bfloat16"), rough_floats(2, (20, 40), "bfloat16"), np.ones(20)
    out = fresh((3, 20), "float32")
    narrow_rows(x, weight, floats(bias, "float32"), out, tile)
    expected = values(x).astype(np.float64) @ values(weight).T.astype(np.float64) + bias
    assert np.abs(values(out) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_reaches_rows_that_start_at_multiples_of_16_bytes():
    wide = fresh((4, 24), "bfloat16")
    assert reachable(wide)
    assert reachable(wide[:, 8:16])
    assert not reachable(wide[:, 4:12])
    assert not reachable(fresh((4, 20), "bfloat16"))
    assert reachable(fresh((4, 20), "float32"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
# 1992: the last load of k is partly past the end, in steps of 32 as in steps of 512
@pytest.mark.parametrize("depth", [1992, 8])
def test_every_tile_has_the_same_bits(depth, dtype):
    x, weight = rough_floats(1, (130, depth), dtype), rough_floats(2, (1000, depth), dtype)
    first = None
    for tile in CHOSEN + (OTHERS if dtype == "bfloat16" else []):
        out = fresh((130, 1000), "float32")
        narrow_rows(x, weight, None, out, tile)
        first = host(out) if first is None else first
        assert_same_bits(host(out), first)


@pytest.mark.gpu
# 200: past the end of a leaf are 56 k of 256, or 24 of 32. 40: k of a leaf that no 16 divide.
@pytest.mark.parametrize("leaf", [200, 40])
def test_every_tile_adds_leaves_to_the_same_bits(leaf):
    x, weight = rough_floats(1, (130, 8 * leaf), "bfloat16"), rough_floats(2, (1000, 8 * leaf), "bfloat16")
    first = None
    for tile in CHOSEN + OTHERS:
        out = fresh((130, 1000), "float32")
        narrow_rows(x, weight, None, out, tile, leaves=8)
        first = host(out) if first is None else first
        assert_same_bits(host(out), first)
