"""Every variant of embedding."""

from detrec.kernels.gpu.embedding import embedding
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        embedding(absent((4,), "int64"), absent((49152, 576), dtype), absent((4, 576), dtype))
