"""Every variant of silu_mul."""

from detrec.kernels.gpu.silu_mul import silu_mul
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        silu_mul(absent((8, 37888), dtype), absent((8, 18944), dtype))
