"""Every variant of the tiles on a Hopper, and what other GPUs run in its place."""

import numpy as np

from detrec.kernels.gpu import attention_prefill
from detrec.kernels.gpu.attention import plan_step
from detrec.kernels.gpu.attention_hopper import hopper_tiles
from tests.kernels.gpu import ahead
from tests.kernels.gpu.launches.attention import SHARED_MEMORY, step


def launches() -> None:
    plan = plan_step(np.zeros(300, np.int32), np.arange(300), 4)
    attention_prefill.shared_memory = lambda: SHARED_MEMORY
    for architectures, kernel in (((90,), hopper_tiles), ((80, 100), None)):
        ahead.architectures = architectures
        attention_prefill._hopper_tiles = lambda kernel=kernel: kernel
        for dtype in ("bfloat16", "float16"):
            for head_dim in (64, 96, 128):
                step(plan, 300, 8, 2, head_dim, dtype)
