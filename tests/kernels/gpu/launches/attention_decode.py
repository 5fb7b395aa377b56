"""Single rows with the group and head sizes that shape a program, few of them and many."""

from detrec.kernels.gpu import attention_decode
from detrec.kernels.gpu.attention import plan_decode
from tests.kernels.gpu import ahead
from tests.kernels.gpu.launches.attention import step


def launches() -> None:
    few, many = plan_decode(1, 1000), plan_decode(32, 5000)
    for architectures, overlaps in (((80,), False), ((90, 100), True)):
        ahead.architectures = architectures
        attention_decode.can_overlap = lambda overlaps=overlaps: overlaps
        for dtype in ("bfloat16", "float16"):
            for heads, kv_heads, head_dim in ((32, 32, 64), (28, 4, 96), (40, 1, 128), (8, 2, 256)):
                step(few, 1, heads, kv_heads, head_dim, dtype)
                step(many, 32, heads, kv_heads, head_dim, dtype)
