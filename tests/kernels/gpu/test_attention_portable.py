"""Attention in float32 has the bits of the CPU kernel."""

import pytest

from detrec.kernels.gpu import attention_portable as module
from tests.bits import assert_same_bits
from tests.kernels.gpu.paged import attend, cpu, decode, paged

# two whole blocks of KV and a ragged one
LENGTH = 150


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "page"), [(6, 2, 64, 4), (7, 1, 128, 16), (2, 2, 96, 128), (9, 3, 16, 1)]
)
def test_has_the_bits_of_the_cpu_kernel(heads, kv_heads, dim, page):
    memory = paged([LENGTH, 1, 64, 700], "float32", heads, kv_heads, dim, page)
    prefill = memory.every_row(0) + memory.every_row(3)
    mixed = [(3, 699), *memory.every_row(2), (1, 0), *((0, p) for p in range(70, LENGTH))]
    for rows in (prefill, mixed):
        assert_same_bits(attend(memory, rows), cpu(memory, rows))
    last = [(s, len(q) - 1) for s, q in enumerate(memory.queries)]
    assert_same_bits(decode(memory, last), cpu(memory, last))


@pytest.mark.gpu
def test_another_block_of_kv_shows_in_the_bits(monkeypatch):
    """Negative control: if this fails, the test above can pass on a kernel of another order."""
    memory = paged([LENGTH], "float32", 6, 2, 64)
    rows = memory.every_row()
    monkeypatch.setattr(module, "KV_BLOCK", 32)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(attend(memory, rows), cpu(memory, rows))
