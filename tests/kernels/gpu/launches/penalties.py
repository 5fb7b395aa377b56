"""Every variant of penalise."""

from detrec.kernels.gpu.penalties import penalise
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        penalise(
            absent((8, 1000), dtype),
            *(absent((64,), "int32"), absent((9,), "int64"), absent((64,), "int32"), absent((64,), "uint8")),
            *(absent((8,), "float32") for _ in range(3)),
            *(absent((32,), "int32"), absent((9,), "int64"), absent((8, 1000), "float32")),
        )
