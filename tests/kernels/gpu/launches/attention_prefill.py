"""Tiles of every head size that a program is shaped for."""

import numpy as np

from detrec.kernels.gpu import attention_prefill
from detrec.kernels.gpu.attention import plan_step
from tests.kernels.gpu import ahead
from tests.kernels.gpu.launches.attention import SHARED_MEMORY, step


def launches() -> None:
    plan = plan_step(np.zeros(300, np.int32), np.arange(300), 4)
    # an H100 and a B200 have more
    for architectures, memory in (((80,), SHARED_MEMORY), ((90, 100), 232448)):
        ahead.architectures = architectures
        attention_prefill.shared_memory = lambda memory=memory: memory
        attention_prefill._hopper_tiles = lambda: None
        for dtype in ("bfloat16", "float16"):
            for head_dim in (64, 96, 128, 256):
                step(plan, 300, 8, 2, head_dim, dtype)
