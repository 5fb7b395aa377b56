"""Every variant of fingerprint: rows that start at 16, 8, 4 and 2 bytes."""

from detrec.kernels.gpu.fingerprint import fingerprint
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    out = absent((8,), "uint64")
    for cols in (512, 896, 3584):
        fingerprint(absent((8, cols), "bfloat16"), out)
    fingerprint(absent((8, 4), "int64"), out)
    fingerprint(absent((8, 63), "float32"), out)
    fingerprint(absent((8, 63), "bfloat16"), out)
