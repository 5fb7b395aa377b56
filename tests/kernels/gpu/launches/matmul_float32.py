"""Every variant of the float32 matmul of a GPU with TMA, and what an older GPU runs in its place."""

from detrec.kernels.gpu import matmul_narrow
from detrec.kernels.gpu.matmul_float32 import float32_rows, tile_of
from detrec.kernels.gpu.matmul_narrow import narrow_rows
from tests.kernels.gpu import ahead
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    matmul_narrow.shared_memory = lambda: 104 << 10
    for rows in (8, 32, 64, 300, 4096):
        arrays = [absent(shape, "float32") for shape in ((rows, 896), (4608, 896), (4608,), (rows, 4608))]
        ahead.architectures = (90, 100)
        for leaves in (1, 8):
            float32_rows(*arrays, tile_of(rows, 4608, leaves), leaves)
        ahead.architectures = (80,)
        narrow_rows(*arrays)
