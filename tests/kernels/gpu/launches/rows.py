"""Every variant of gather_rows."""

from detrec.kernels.gpu.rows import gather_rows
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        gather_rows(absent((8, 896), dtype), absent((4,), "int64"), absent((4, 896), dtype))
