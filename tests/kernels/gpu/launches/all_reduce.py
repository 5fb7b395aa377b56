"""Every variant of all_reduce and all_gather: one stage and two, both orders, whole units and ragged ones."""

from detrec.kernels.gpu import all_reduce as file
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS


def links(world_size: int) -> file.Links:
    turns = absent((2 * file.BLOCKS,), "int64")
    one, two = (
        file.Staging(tuple((rank + 1) << 40 for rank in range(world_size)), 0, file.cap_of(size), turns)
        for size in (1 << 12, 1 << 20)
    )
    return file.Links(0, world_size, absent((file.CONTROL_WORDS,), "int64"), one, two)


def launches() -> None:
    for world_size in (2, 3, 8):
        those = links(world_size)
        for dtype in FLOATS:
            for cols in (1024, 1023, 1 << 21):
                for order in ("ranks", "tree") if world_size != 3 or cols == 1024 else ("ranks",):
                    file.all_reduce(absent((3, cols), dtype), absent((3, cols), dtype), those, order)
                    if order == "tree":
                        partials = absent((3, cols), "float32")
                        file.all_reduce(partials, absent((3, cols), dtype), those, order)
        for cols in (1024, 1023):
            x, out = (absent((3, cols * wide), "float32") for wide in (1, world_size))
            file.all_gather(x, out, those)
