"""Every variant of embedding, of a whole table and of a part."""

from detrec.kernels.gpu.embedding import embedding, embedding_part
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        about = absent((4,), "int64"), absent((49152, 576), dtype)
        embedding(*about, absent((4, 576), dtype))
        embedding_part(*about, 49152, absent((4, 576), dtype))
