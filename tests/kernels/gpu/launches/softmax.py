"""Every variant of softmax and log_softmax: a program a row, and rows that programs share."""

from detrec.kernels.gpu.softmax import SCRATCH, log_softmax, softmax
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        for kernel in (softmax, log_softmax):
            for out in {dtype, "float32"}:
                kernel(absent((8, 152064), dtype), absent((8, 152064), out))
    for cols in (49152, 152064):
        x, out = absent((8, cols), "float32"), absent((8, cols), "float32")
        log_softmax(x, out, absent(SCRATCH, "int64"))
