"""The matmul for many rows on a Hopper: the tile it takes, and the bits of the matmul for few rows."""

import pytest

from detrec.kernels.gpu.matmul_narrow import narrow_rows
from detrec.kernels.gpu.matmul_wide import LEAF_TILES, TILES, tile_of, wide_rows
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, fresh, host
from tests.kernels.gpu.rough import rough, rough_floats


@pytest.mark.parametrize(
    ("rows", "cols", "width"),
    [
        # 2048 tiles of 256 columns: 16 rounds
        pytest.param(8192, 8192, 256, id="many tiles"),
        # 448 tiles of 256 are four rounds, the last one nearly idle; 896 of 128 are seven
        pytest.param(4096, 3584, 128, id="a last round nearly idle"),
        pytest.param(256, 3584, 64, id="fewer tiles than processors"),
    ],
)
def test_takes_the_tile_that_leaves_processors_least_idle(rows, cols, width):
    assert tile_of(rows, cols, processors=132).cols == width


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "kind"), [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")]
)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.cols} columns")
# 8: less than one stage. 1992: the last stage is partly past the end.
@pytest.mark.parametrize("depth", [8, 1992, 3584])
def test_has_the_bits_of_the_matmul_for_few_rows(depth, tile, dtype, kind):
    from triton.runtime import driver

    if driver.active.get_current_target().arch != 90:
        pytest.skip("only a Hopper has these instructions")
    # 3104 columns: more tiles than processors, and a ragged one
    x, weight, bias = (
        rough_floats(1, (1300, depth), dtype),
        rough_floats(2, (3104, depth), dtype),
        rough(3, 3104),
    )
    expected, out = fresh((1300, 3104), kind), fresh((1300, 3104), kind)
    narrow_rows(x, weight, device(bias), expected)
    wide_rows(x, weight, device(bias), out, tile)
    assert_same_bits(host(out), host(expected))
    some = fresh((5, 3104), kind)
    wide_rows(x[77:82], weight, device(bias), some, tile)
    assert_same_bits(host(some), host(expected)[77:82])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
@pytest.mark.parametrize("leaves", [2, 4, 8])
# 64: leaves of less than one stage. 1600: of 200 k for one rank, whose last stage is partly past their end.
@pytest.mark.parametrize("depth", [64, 1600, 3584])
def test_leaves_have_the_bits_of_the_matmul_for_few_rows(depth, leaves, kind):
    from triton.runtime import driver

    if driver.active.get_current_target().arch != 90:
        pytest.skip("only a Hopper has these instructions")
    x, weight = rough_floats(1, (1300, depth), "bfloat16"), rough_floats(2, (3104, depth), "bfloat16")
    expected, some = fresh((1300, 3104), kind), fresh((5, 3104), kind)
    narrow_rows(x, weight, None, expected, leaves=leaves)
    for tile in LEAF_TILES if leaves == 8 else list(TILES)[1:]:
        out = fresh((1300, 3104), kind)
        wide_rows(x, weight, None, out, tile, leaves)
        assert_same_bits(host(out), host(expected))
        wide_rows(x[77:82], weight, None, some, tile, leaves)
        assert_same_bits(host(some), host(expected)[77:82])
