"""Every variant of the matmul for few rows."""

from detrec.kernels.gpu import matmul_narrow
from detrec.kernels.gpu.matmul_narrow import narrow_rows, tile_of
from tests.kernels.gpu import ahead
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    # bytes of shared memory of an RTX 3090, an H100, a B200
    for architecture, memory in ((80, 99 << 10), (90, 227 << 10), (100, 227 << 10)):
        ahead.architectures = (architecture,)
        matmul_narrow.shared_memory = lambda memory=memory: memory
        for dtype in FLOATS:
            tiles = {tile_of(rows, cols, dtype) for rows in (1, 32, 64, 300) for cols in (512, 8000, 9000)}
            # float16 is bfloat16's kernel with another instruction: the first and last tile will do
            for tile in sorted(tiles) if dtype != "float16" else (min(tiles), max(tiles)):
                x, w = absent((tile.rows, 896), dtype), absent((512, 896), dtype)
                narrow_rows(x, w, absent((512,), "float32"), absent((tile.rows, 512), dtype), tile)
            for tile in {tile_of(rows, 512, dtype, 112) for rows in (1, 300)} if dtype != "float16" else ():
                x, w = absent((tile.rows, 896), dtype), absent((512, 896), dtype)
                narrow_rows(x, w, None, absent((tile.rows, 512), "float32"), tile, leaves=8)
