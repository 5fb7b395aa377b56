"""Every variant of the matmul for many rows on a Hopper, and what other GPUs run in its place."""

from detrec.kernels.gpu import matmul_narrow, matmul_wide
from detrec.kernels.gpu.matmul_narrow import narrow_rows
from detrec.kernels.gpu.matmul_wide import LEAF_TILES, TILES, tile_of, wide_rows
from tests.kernels.gpu import ahead
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    matmul_narrow.shared_memory = lambda: 104 << 10
    matmul_wide.processors = lambda: 132
    for dtype in ("bfloat16", "float16"):
        x, w, bias = absent((4096, 896), dtype), absent((512, 896), dtype), absent((512,), "float32")
        # float16 is bfloat16's kernel with another instruction: one output will do
        for kind in (dtype, "float32") if dtype == "bfloat16" else (dtype,):
            out = absent((4096, 512), kind)
            ahead.architectures = (90,)
            for tile in TILES:
                wide_rows(x, w, bias, out, tile)
            for tile in LEAF_TILES:
                wide_rows(x, w, None, out, tile, leaves=8)
            wide_rows(x, w, None, out, tile_of(4096, 512, 132, leaves=4), leaves=4)
            ahead.architectures = (80, 100)
            narrow_rows(x, w, bias, out)
