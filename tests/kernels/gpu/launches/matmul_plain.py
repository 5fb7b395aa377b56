"""Every variant of the plain matmul."""

from detrec.kernels.gpu.matmul_plain import plain
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        for rows in (8, 64):
            for depth in (896, 100):
                x, w = absent((1, rows, depth), dtype), absent((1, depth, 512), dtype)
                plain(x, w, absent((512,), "float32"), absent((1, rows, 512), dtype))
                if dtype != "float16":
                    plain(x, w, None, absent((1, rows, 512), "float32"), leaves=8)
        plain(absent((2, 64, 96), dtype), absent((2, 96, 64), dtype), None, absent((2, 64, 64), "float32"))
