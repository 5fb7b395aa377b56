"""Float32, for every head size that pads otherwise."""

from detrec.kernels.gpu.attention import plan_decode
from tests.kernels.gpu.launches.attention import step


def launches() -> None:
    for heads, kv_heads, head_dim in ((9, 3, 64), (28, 4, 128), (8, 2, 96)):
        step(plan_decode(8, 5000), 8, heads, kv_heads, head_dim, "float32")
