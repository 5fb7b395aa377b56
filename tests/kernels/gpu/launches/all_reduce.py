"""All that all_reduce and all_gather are made of: stages, orders, dtypes, whole units and ragged ones."""

from detrec.kernels.gpu import all_reduce as file
from detrec.kernels.gpu import staging as laid
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def links(world_size: int) -> laid.Links:
    turns = absent((2 * laid.BLOCKS,), "int64")
    one, two = (
        laid.Staging(tuple((rank + 1) << 40 for rank in range(world_size)), 0, laid.cap_of(size), turns)
        for size in (1 << 12, 1 << 20)
    )
    return laid.Links(0, world_size, absent((laid.CONTROL_WORDS,), "int64"), one, two)


def launches() -> None:
    file.all_reduce(*(absent((3, 1024), "bfloat16") for _ in range(2)), links(5), "ranks")
    for world_size, order in ((2, "ranks"), (8, "tree")):
        those = links(world_size)
        for dtype in FLOATS:
            # one stage, of whole units and of ragged ones, and two stages
            for cols in (1024, 1023, 1 << 21):
                file.all_reduce(absent((3, cols), dtype), absent((3, cols), dtype), those, order)
        for cols in (1024, 1 << 21):
            file.all_reduce(absent((3, cols), "float32"), absent((3, cols), "bfloat16"), those, order)
    for cols in (1024, 1023):
        file.all_gather(absent((3, cols), "float32"), absent((3, 2 * cols), "float32"), links(2))
