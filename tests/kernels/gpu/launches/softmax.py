"""Every variant of softmax and log_softmax: a program a row, and rows that programs share."""

from detrec.kernels.gpu.softmax import SCRATCH, log_softmax, softmax
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        for kernel in (softmax, log_softmax):
            for out in {dtype, "float32"}:
                kernel(absent((8, 152064), dtype), absent((8, 152064), out))
    for dtype in FLOATS:
        for kernel in (softmax, log_softmax):
            kernel(absent((8, 20000), dtype), absent((8, 20000), "float32"), absent(SCRATCH, "int64"))
    # as many elements as are held in registers
    for dtype in ("float32", "bfloat16"):
        log_softmax(absent((8, 152064), dtype), absent((8, 152064), dtype), absent(SCRATCH, "int64"))
