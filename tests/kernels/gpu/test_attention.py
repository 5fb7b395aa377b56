"""Attention on the GPU: meaning, the same bits whatever runs beside a row, edges."""

from itertools import pairwise

import numpy as np
import pytest

from detrec.kernels.gpu import attention_decode, attention_prefill
from detrec.kernels.gpu.attention import attention, plan_decode, plan_step
from detrec.kernels.gpu.attention_softmax import PARTITION
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, fresh, host
from tests.kernels.gpu.paged import attend, close, decode, paged

# one partition of KV, and of the next a whole block and a ragged one
LENGTH = PARTITION + 150


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(6, 2, 64), (7, 1, 128), (2, 2, 24)])
def test_means_what_the_cpu_kernel_means(heads, kv_heads, dim, dtype):
    memory = paged([LENGTH], dtype, heads, kv_heads, dim)
    few = [(0, p) for p in (0, 63, 64, PARTITION - 1, PARTITION, LENGTH - 1)]
    slices = [(0, p) for p in range(PARTITION - 6, PARTITION + 5)]
    for rows in (few, slices):
        assert close(attend(memory, rows), memory, rows)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "dtype"),
    [
        (28, 4, 128, "bfloat16"),
        (28, 4, 128, "float16"),
        (2, 2, 64, "bfloat16"),
        (6, 2, 96, "float16"),
        (4, 1, 256, "bfloat16"),
    ],
)
def test_every_row_decoded_has_the_bits_of_prefill(heads, kv_heads, dim, dtype):
    memory = paged([2 * PARTITION + 200], dtype, heads, kv_heads, dim)
    rows = memory.every_row()
    assert_same_bits(decode(memory, rows), attend(memory, rows))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "cuts", [(1,), (16, 32), (5, 70, 71), (63, 64, 65), (300, PARTITION), (PARTITION + 1, 600), (661,)]
)
def test_where_a_chunk_was_cut_does_not_show(cuts, dtype):
    memory = paged([LENGTH], dtype, 14, 2, 64)
    bounds = [0, *cuts, LENGTH]
    chunks = [attend(memory, [(0, p) for p in range(*bound)]) for bound in pairwise(bounds)]
    assert_same_bits(np.concatenate(chunks), attend(memory, memory.every_row()))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
def test_row_does_not_see_its_batch(dtype):
    memory = paged([LENGTH, 3, 64, 97], dtype, 14, 2, 64)
    alone = {}
    for s in range(4):
        alone |= dict(zip(memory.every_row(s), attend(memory, memory.every_row(s)), strict=True))
    places = list(alone)
    rng = np.random.default_rng(1)
    mixed = [(3, 96), *((0, p) for p in range(40, 590)), (1, 2), *memory.every_row(2), (0, 600)]
    for rows in (places, [places[i] for i in rng.permutation(len(places))], mixed, mixed[::-1]):
        assert_same_bits(attend(memory, rows), np.array([alone[place] for place in rows]))
    padded = [None if i % 3 == 1 else places[i] for i in range(0, 700, 7)]
    found = decode(memory, padded)
    kept = [i for i, place in enumerate(padded) if place]
    assert_same_bits(found[kept], np.array([alone[padded[i]] for i in kept]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("page", [1, 8, 128])
def test_where_the_cache_keeps_a_block_does_not_show(page, dtype):
    rows = [(0, 99), *((1, p) for p in range(50, 70)), (1, 129)]
    expected = attend(paged([100, 130], dtype, 2, 1, 64), rows)
    for seed in (6, 7):
        assert_same_bits(attend(paged([100, 130], dtype, 2, 1, 64, page, seed), rows), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_padding_row_is_not_written_and_changes_no_other(dtype):
    memory = paged([100, 30], dtype, 2, 1, 64)
    rows = [(0, 99), None, (1, 29), None]
    found, whole = decode(memory, rows), decode(memory, [(0, 99), (1, 29)])
    assert_same_bits(found[[0, 2]], whole)
    assert (found[[1, 3]].view(np.uint8) == 0xFF).all()
    assert_same_bits(attend(memory, rows), found)


def test_another_partition_shows_in_the_bits(monkeypatch):
    """Negative control: if this fails, the tests above can pass on a kernel that is not invariant."""
    memory = paged([200], "bfloat16", 2, 1, 64)
    rows = [(0, p) for p in range(189, 200)]
    before = decode(memory, rows), attend(memory, rows)
    monkeypatch.setattr(attention_prefill, "_hopper_tiles", lambda: None)
    for module in (attention_decode, attention_prefill):
        monkeypatch.setattr(module, "PARTITION", 128)
    for old, new in zip(before, (decode(memory, rows), attend(memory, rows)), strict=True):
        with pytest.raises(AssertionError, match="differ in bits"):
            assert_same_bits(old, new)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_may_be_slices_of_wider_ones(dtype):
    memory = paged([100], dtype, 2, 1, 64)
    rows = [(0, 99), *((0, p) for p in range(50, 70))]
    assert_same_bits(attend(memory, rows, gap=64), attend(memory, rows))


def test_no_rows():
    memory = paged([10], "bfloat16", 2, 1, 64)
    assert attend(memory, []).shape == decode(memory, []).shape == (0, 128)


def test_a_plan_cuts_rows_into_single_ones_and_tiles_the_longest_first():
    # a decode, a padding row, a slice too short for tiles, a slice of 40 at 100, another of 30 at 0
    row_seq = np.repeat([3, -1, 2, 0, 1], [1, 1, 4, 40, 30]).astype(np.int32)
    positions = np.r_[500, 7, 80:84, 100:140, 0:30].astype(np.int64)
    plan = plan_step(row_seq, positions, 7)
    assert (plan.singles, plan.tiles, plan.copies, plan.max_len) == (5, 5, 3, 501)
    assert plan.table.dtype == np.int32
    assert plan.table[:5].tolist() == [[row, 1, 0, 0] for row in (0, 2, 3, 4, 5)]
    # 280 lines of the first slice and 210 of the second, whose KV is gathered behind two blocks of the first
    first, second = [6, 40, 0], [46, 30, 256]
    tiles = [[*first, 256], [*first, 128], [*first, 0], [*second, 128], [*second, 0]]
    assert plan.table[5:10].tolist() == tiles
    assert plan.table[10:].tolist() == [[6, 0, 0, 140], [6, 128, 128, 140], [46, 0, 256, 30]]


def test_rows_out_of_order_are_no_slice():
    row_seq = np.zeros(40, np.int32)
    plan = plan_step(row_seq, np.arange(40)[::-1].copy(), 7)
    assert (plan.singles, plan.tiles, plan.copies) == (40, 0, 0)


def test_a_plan_of_a_captured_step_does_not_know_its_rows():
    plan = plan_decode(3, 5000)
    assert plan.table[:, :2].tolist() == [[0, 1], [1, 1], [2, 1]]
    assert (plan.singles, plan.tiles, plan.copies, plan.max_len) == (3, 0, 0, 5000)


WRONG = {
    "dtypes": ({"cache": fresh((9, 16, 2, 64), "float16")}, "q is bfloat16, cache float16"),
    "cache": ({"cache": fresh((9, 16, 64), "bfloat16")}, r"cache has shape \[9, 16, 64\]"),
    "heads": ({"cache": fresh((9, 16, 2, 192), "bfloat16")}, r".* do not fit"),
    "head_dim": ({"head_dim": 12}, "head_dim is 12"),
    "row_seq": ({"row_seq": fresh((3,), "int32")}, r"row_seq is int32 \[3\], expected int32 \[2\]"),
    "positions": ({"positions": fresh((2,), "int32")}, "positions is int32"),
    "tables": ({"block_tables": fresh((2, 4), "int64")}, "block_tables is int64"),
    "table": ({"table": fresh((1, 4), "int32")}, r"table is int32 \[1, 4\], expected int32 \[2, 4\]"),
    "scratch": ({"scratch": fresh((16,), "uint8")}, "scratch has 16 bytes"),
    "scale": ({"scale": 0.0}, "scale is 0.0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_rejects_what_does_not_fit(name):
    change, message = WRONG[name]
    arguments = {
        "q": fresh((2, 128), "bfloat16"),
        "cache": fresh((9, 16, 2, 64), "bfloat16"),
        "block_tables": fresh((2, 4), "int32"),
        "row_seq": fresh((2,), "int32"),
        "positions": fresh((2,), "int64"),
        "plan": plan_decode(2, 64),
        "table": fresh((2, 4), "int32"),
        "scale": 0.125,
        "out": fresh((2, 128), "bfloat16"),
        "scratch": fresh((1 << 14,), "uint8"),
        "head_dim": 64,
    }
    with pytest.raises(ValueError, match=f"attention: {message}"):
        attention(**arguments | change)
    assert (host(arguments["out"]) == 0xFFFF).all()
