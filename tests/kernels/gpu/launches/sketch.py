"""Every variant of sketch."""

from detrec.kernels.gpu.sketch import sketch
from detrec.kernels.projections import PARTS
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def launches() -> None:
    for dtype in FLOATS:
        for width in (64, 896, 18944):
            sketch(absent((640, width), dtype), absent((640, PARTS), "float32"))
