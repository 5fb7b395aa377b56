"""Single rows: neither how a launch is made nor how much room it leaves moves a bit."""

import numpy as np
import pytest

from detrec.kernels.gpu import attention_decode as module
from detrec.kernels.gpu.attention import plan_decode
from tests.bits import assert_same_bits
from tests.kernels.gpu.paged import attend, close, decode, paged


@pytest.mark.parametrize("few", [0, 64], ids=["a program each", "shared"])
def test_many_partitions_mean_what_one_means(few, monkeypatch):
    memory = paged([700], "bfloat16", 2, 1, 64)
    rows = [(0, p) for p in (0, 127, 128, 500, 699)]
    monkeypatch.setattr(module, "PARTITION", 128)
    monkeypatch.setattr(module, "FEW", few)
    assert close(decode(memory, rows), memory, rows)


def test_room_for_longer_contexts_does_not_show():
    memory = paged([600], "bfloat16", 2, 1, 64)
    rows = [(0, 599), (0, 5)]
    expected = decode(memory, rows)
    for max_len in (600, 8192):
        assert_same_bits(attend(memory, rows, plan_decode(2, max_len)), expected)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NUM_WARPS", 2),
        ("NUM_WARPS", 8),
        ("_stages", lambda *shape: 1),
        ("_stages", lambda *shape: 3),
        ("MERGE_WARPS", 4),
        ("AHEAD", 1),
        ("AHEAD", 2),
        ("SLICES", 1),
        ("SLICES", 4),
        ("FEW", 1 << 30),
        ("OVERLAPPED", 1 << 30),
        ("can_overlap", lambda: False),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_how_it_is_launched_does_not_show(name, value, monkeypatch):
    memory = paged([3000, 1500], "bfloat16", 14, 2, 128)
    rows = [(0, 2999), *((1, p) for p in range(0, 1500, 37))]
    expected = decode(memory, rows)
    monkeypatch.setattr(module, name, value)
    assert_same_bits(decode(memory, rows), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [2, 14, 34, 80])
def test_how_many_heads_share_one_of_kv_does_not_show(heads):
    """A group of 1 and 7 heads fills 16 lines of a program, of 17 32, of 40 64: another shape of a tile."""
    shared, alone = paged([1500], "bfloat16", heads, 2, 128), paged([1500], "bfloat16", 2, 2, 128)
    # the first head of each group, and what it gives
    firsts = np.r_[0:128, heads * 64 : heads * 64 + 128]
    alone.queries[0][...] = shared.queries[0][:, firsts]
    rows = [(0, p) for p in range(3, 1500, 50)]
    assert_same_bits(decode(shared, rows)[:, firsts], decode(alone, rows))
