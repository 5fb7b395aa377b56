"""Steps of decode and of prefill as an engine runs them."""

import numpy as np

from detrec.kernels.gpu import attention_decode, attention_prefill
from detrec.kernels.gpu.attention import AttentionPlan, attention, plan_decode, plan_step, scratch_bytes
from tests.kernels.gpu.ahead import absent
from tests.kernels.gpu.device import FLOATS

BLOCKS, MAX_BLOCKS = 64, 32

# bytes that a program may have on an A100
SHARED_MEMORY = 166912

# for every architecture alike, unless a file says otherwise
attention_decode.can_overlap = lambda: False


def step(
    plan: AttentionPlan, rows: int, heads: int, kv_heads: int, head_dim: int, dtype: str, page: int = 16
) -> None:
    """One call; q is a slice of wider rows."""
    width = heads * head_dim
    attention(
        absent((rows, width + 2 * kv_heads * head_dim), dtype)[:, :width],
        absent((BLOCKS, page, 2, kv_heads * head_dim), dtype),
        absent((4, MAX_BLOCKS), "int32"),
        absent((rows,), "int32"),
        absent((rows,), "int64"),
        plan,
        absent(plan.table.shape, "int32"),
        head_dim**-0.5,
        absent((rows, width), dtype),
        absent((scratch_bytes(plan, heads, kv_heads, head_dim),), "uint8"),
        head_dim,
    )


def launches() -> None:
    attention_prefill.shared_memory = lambda: SHARED_MEMORY
    attention_prefill._hopper_tiles = lambda: None
    mixed = plan_step(np.repeat([0, 1], [1, 47]).astype(np.int32), np.r_[70, np.arange(47)], 7)
    for dtype in FLOATS:
        step(plan_decode(8, 1 << 15), 8, 28, 4, 128, dtype)
        step(mixed, 48, 28, 4, 128, dtype)
    # pages of one position, as keys lie that were gathered beforehand
    step(plan_decode(8, 1 << 15), 8, 28, 4, 128, "bfloat16", page=1)
    step(mixed, 48, 28, 4, 128, "bfloat16", page=1)
