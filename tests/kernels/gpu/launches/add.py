"""Every variant of add."""

from detrec.kernels.gpu.add import add
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        add(*(absent((8, 896), dtype) for _ in range(3)))
