"""Every variant of rounded."""

from detrec.kernels.gpu.rounded import rounded
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        rounded(absent((8, 896), "float32"), absent((8, 896), dtype))
