"""Tiles done again, for every head size that a program is shaped for."""

from detrec.kernels.gpu.attention_again import attend_again
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    for dtype in ("bfloat16", "float16"):
        for heads, kv_heads, head_dim in ((9, 3, 64), (28, 4, 128), (8, 2, 96), (8, 2, 256)):
            x = absent((300, heads * head_dim), dtype)
            attend_again(
                *(x, absent((64, 16, 2, kv_heads * head_dim), dtype), absent((4, 32), "int32")),
                *(absent((300,), "int32"), absent((300,), "int64"), absent((12, 4), "int32"), 128),
                *(absent((12, kv_heads, 2), "int32"), head_dim**-0.5, x, head_dim),
            )
