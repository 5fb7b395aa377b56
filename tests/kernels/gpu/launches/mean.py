"""Every variant of mean: over the last axis, over the first, over all."""

from detrec.kernels.gpu.mean import mean
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        x = absent((640, 3584), dtype)
        mean(x, 1, absent((640,), "float32"))
        mean(x, 0, absent((3584,), "float32"))
        mean(x, None, absent((), "float32"))
