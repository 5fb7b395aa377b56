"""Every variant of rms_norm: heads, and hidden sizes of small and large models."""

from detrec.kernels.gpu.rms_norm import rms_norm, rms_norm_residual
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        for cols in (128, 576, 3584, 8192):
            x, out, weight = absent((8, cols), dtype), absent((8, cols), dtype), absent((cols,), "float32")
            rms_norm(x, weight, 1e-6, out)
            rms_norm_residual(x, absent((8, cols), dtype), weight, 1e-6, out, absent((8, cols), dtype))
