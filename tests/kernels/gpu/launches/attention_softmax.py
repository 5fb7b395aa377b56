"""What decode and prefill share is compiled inside of them."""

import numpy as np

from detrec.kernels.gpu import attention_prefill
from detrec.kernels.gpu.attention import plan_step
from tests.kernels.gpu.launches.attention import SHARED_MEMORY, step


def launches() -> None:
    attention_prefill.shared_memory = lambda: SHARED_MEMORY
    attention_prefill._hopper_tiles = lambda: None
    plan = plan_step(np.repeat([0, 1], [1, 20]).astype(np.int32), np.r_[70, np.arange(20)], 1)
    step(plan, 21, 2, 2, 16, "bfloat16")
