"""An infinity or NaN among values harms the rows that see it, and no row before them."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.kernels.gpu import attention_prefill
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, host
from tests.kernels.gpu.paged import Paged, attend, decode, paged

# the interpreter's numpy says what it meets
pytestmark = pytest.mark.filterwarnings("ignore:invalid value")

# in the middle of a tile, and of a partition of KV
AT = 11
BITS = {"float32": (0x7F800000, 0x7FC00000), "bfloat16": (0x7F80, 0x7FC0), "float16": (0x7C00, 0x7E00)}


def poisoned(memory: Paged, at: int, bits: int) -> Paged:
    """The same with `bits` in three columns of the values at position `at` of the first sequence."""
    stored = host(memory.cache)
    page = stored.shape[1]
    values = stored[memory.tables[0, at // page], at % page, 1, :3]
    values.view(f"u{values.itemsize}")[...] = bits
    return replace(memory, cache=device(stored))


def finite(out: np.ndarray) -> np.ndarray:
    """Which elements are, of an array as it is stored."""
    return (out & 0x7F80) != 0x7F80 if out.dtype == np.uint16 else np.isfinite(out)


@pytest.mark.parametrize("which", [0, 1], ids=["infinity", "nan"])
@pytest.mark.parametrize(
    ("dtype", "dim"), [("float32", 16), ("bfloat16", 16), ("bfloat16", 64), ("float16", 64)]
)
def test_rows_before_it_keep_their_bits(dtype, dim, which):
    memory = paged([20, 10], dtype, 4, 2, dim)
    rows = [*memory.every_row(1), *memory.every_row(0)]
    clean = attend(memory, rows)
    harmed = poisoned(memory, AT, BITS[dtype][which])
    out = attend(harmed, rows)
    before = len(memory.every_row(1)) + AT
    assert_same_bits(out[:before], clean[:before])
    assert (~finite(out[before:]).all(axis=1)).all()
    assert_same_bits(out, decode(harmed, rows))


def test_without_another_go_they_would_be_harmed(monkeypatch):
    """Negative control: a tile by itself makes rows NaN that do not see it."""
    monkeypatch.setattr(attention_prefill, "attend_again", lambda *args: None)
    memory = paged([20], "bfloat16", 4, 2, 64)
    out = attend(poisoned(memory, AT, 0x7F80), memory.every_row())
    assert not finite(out[:AT]).all()
