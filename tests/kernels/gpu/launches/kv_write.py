"""Every variant of kv_write that an engine launches."""

from detrec.kernels.gpu.kv_write import kv_write
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    slots = absent((8,), "int64")
    for dtype in FLOATS:
        k, v, out = absent((8, 512), dtype), absent((8, 512), dtype), absent((8, 1024), dtype)
        kv_write(k, v, absent((4, 16, 2, 512), dtype), slots, out)
        kv_write(k, v, absent((4, 16, 2, 512), "bfloat16"), slots, out)
