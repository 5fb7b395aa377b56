"""What matmul, addmm and bmm launch."""

from detrec.kernels.gpu import matmul as file
from detrec.kernels.gpu import matmul_narrow
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    # what only some GPUs run is compiled by the launches of its own file
    file._tuned = lambda: file.Tuned(None, None)
    matmul_narrow.shared_memory = lambda: 104 << 10
    for rows, depth in ((8, 896), (256, 896), (8, 100)):
        x, weight, out = (absent(shape, "bfloat16") for shape in ((rows, depth), (512, depth), (rows, 512)))
        file.matmul(x, weight, None, out)
        file.addmm(absent((512,), "float32"), x, weight, out)
    file.bmm(*(absent(shape, "bfloat16") for shape in ((2, 64, 96), (2, 96, 64), (2, 64, 64))))
