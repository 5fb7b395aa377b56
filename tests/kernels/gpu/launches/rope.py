"""Every variant of rope: heads of SmolLM2 and of Qwen2."""

from detrec.kernels.gpu.rope import rope
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    positions = absent((8,), "int64")
    for dtype in FLOATS:
        for heads, size in ((9, 64), (28, 128), (4, 128)):
            x, out = absent((8, heads * size), dtype), absent((8, heads * size), dtype)
            table = absent((4096, size // 2), "float32")
            rope(x, positions, table, table, out)
