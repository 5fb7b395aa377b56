"""Matmul with K as leaves in a tree: its meaning, the same bits for any number of ranks, batch and thread."""

import numpy as np
import pytest

from detrec.kernels.cpu.matmul import matmul
from detrec.kernels.cpu.matmul_leaves import matmul_leaves
from detrec.kernels.cpu.packed import PackedWeight, pack_weight
from detrec.kernels.leaves import LEAVES
from tests.bits import assert_same_bits
from tests.kernels.test_matmul import ULP, bf16, chain, fresh, rough, widened

RANKS = [1, 2, 4, 8]


def whole(x: np.ndarray, weight: PackedWeight) -> np.ndarray:
    """What one rank gives."""
    return matmul_leaves(x, weight, fresh(len(x), weight.shape[0]), leaves=LEAVES)


def partials(x: np.ndarray, w: np.ndarray, ranks: int) -> list[np.ndarray]:
    """What each rank gives of its columns of x and w, both [.., K]."""
    cuts = zip(np.split(x, ranks, axis=1), np.split(w, ranks, axis=1), strict=True)
    return [matmul_leaves(a, pack_weight(b), fresh(len(x), len(w)), leaves=LEAVES // ranks) for a, b in cuts]


def tree(sums: list[np.ndarray]) -> np.ndarray:
    """Neighbours added, until one is left."""
    while len(sums) > 1:
        sums = [left + right for left, right in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


# one row takes four panels at once, and the rest; 8 rows and fewer a tile each; 203 columns leave a ragged
# panel. 8: a leaf of one k. 296: leaves of 37, a ragged unrolled step. 70 x 600 x 512: shared among threads.
@pytest.mark.parametrize(
    ("rows", "columns", "depth"), [(1, 203, 296), (1, 1, 8), (3, 40, 64), (13, 70, 296), (70, 600, 512)]
)
@pytest.mark.parametrize("ranks", RANKS)
def test_partial_sums_added_in_the_tree_are_the_whole_layer(rows, columns, depth, ranks):
    x, weight, _ = rough(rows, columns, depth)
    assert_same_bits(tree(partials(x, weight.unpacked(), ranks)), whole(x, weight))


def test_a_leaf_is_one_fma_chain_in_the_order_of_k():
    x, weight, _ = rough(13, 70, 296)
    w = weight.unpacked()
    leaves = [chain(x[:, k : k + 37], w[:, k : k + 37]) for k in range(0, 296, 37)]
    assert_same_bits(whole(x, weight), tree(leaves))


def test_one_leaf_is_the_plain_matmul():
    x, weight, _ = rough(9, 70, 37)
    out = matmul_leaves(x, weight, fresh(9, 70), leaves=1)
    assert_same_bits(out, matmul(x, weight, None, fresh(9, 70)))


@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 1, 8), (9, 63, 296), (70, 600, 512)])
def test_means_x_times_w_transposed(rows, columns, depth):
    x, weight, _ = rough(rows, columns, depth)
    x64, w64 = x.astype(np.float64), weight.unpacked().astype(np.float64)
    bound = (depth + 1) * ULP * (abs(x64) @ abs(w64).T) * 1.01
    assert (abs(whole(x, weight) - x64 @ w64.T) <= bound).all()


# among 8 a rank's chain is a leaf
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_plain_matmul_cut_among_ranks_has_other_bits(ranks):
    """Negative control: if this fails, the tests above can pass on a kernel that sums K in one chain."""
    x, weight, _ = rough(4, 70, 576)
    cuts = zip(np.split(x, ranks, axis=1), np.split(weight.unpacked(), ranks, axis=1), strict=True)
    cut = tree([matmul(a, pack_weight(b), None, fresh(4, 70)) for a, b in cuts])
    uncut = matmul(x, weight, None, fresh(4, 70))
    for other in (uncut, whole(x, weight)):
        with pytest.raises(AssertionError, match="differ in bits"):
            assert_same_bits(cut, other)


def test_partial_sums_added_in_another_tree_have_other_bits():
    """Negative control: the order of ranks in the sum shows in these values."""
    x, weight, _ = rough(4, 70, 576)
    first, *others = partials(x, weight.unpacked(), 4)
    for other in others:
        first = first + other
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(first, whole(x, weight))


@pytest.mark.parametrize("leaves", [2, 8])
def test_row_does_not_see_its_batch(leaves):
    x, weight, _ = rough(70, 203, 296)

    def product(x: np.ndarray) -> np.ndarray:
        return matmul_leaves(x, weight, fresh(len(x), 203), leaves=leaves)

    alone = np.concatenate([product(x[r : r + 1]) for r in range(len(x))])
    rng = np.random.default_rng(3)
    for rows in range(1, 71):
        chosen = rng.integers(0, 70, rows)
        assert_same_bits(product(x[chosen]), alone[chosen])


@pytest.mark.parametrize("rows", [1, 9, 200])
def test_thread_count_does_not_move_a_bit(monkeypatch, rows):
    x, weight, _ = rough(rows, 200, 296)
    serial = whole(x, weight)
    monkeypatch.setattr("detrec.kernels.cpu.matmul.SERIAL", 0)
    for threads in (1, 2, 3, 16):
        monkeypatch.setattr("detrec.kernels.cpu.matmul.get_num_threads", lambda threads=threads: threads)
        assert_same_bits(whole(x, weight), serial)


def test_bfloat16_is_widened_before_and_rounded_once_after():
    x, weight, _ = rough(9, 70, 296)
    x16, w16 = bf16(x), bf16(weight.unpacked())
    exact = whole(widened(x16), pack_weight(widened(w16)))
    assert_same_bits(whole(x16, pack_weight(w16)), exact)
    rounded = matmul_leaves(x16, pack_weight(w16), fresh(9, 70, dtype=np.uint16), leaves=LEAVES)
    assert_same_bits(rounded, bf16(exact))


def test_rows_at_a_stride_are_rows():
    """As a rank that holds all of x takes its part of it."""
    x, weight, _ = rough(9, 70, 296)
    halves = np.split(weight.unpacked(), 2, axis=1)
    for part, w in zip((x[:, :148], x[:, 148:]), halves, strict=True):
        out = matmul_leaves(part, pack_weight(w), fresh(9, 70), leaves=4)
        assert_same_bits(out, matmul_leaves(part.copy(), pack_weight(w), fresh(9, 70), leaves=4))


def test_no_rows():
    assert whole(np.empty((0, 296), np.float32), rough(1, 70, 296)[1]).shape == (0, 70)


def test_rejects_what_the_leaves_do_not_divide():
    x, weight, _ = rough(4, 70, 36)
    with pytest.raises(ValueError, match="matmul_leaves: K is 36, which 8 leaves do not divide"):
        whole(x, weight)
    for leaves in (0, 3, 16):
        with pytest.raises(ValueError, match=f"leaves is {leaves}, expected 1, 2, 4 or 8"):
            matmul_leaves(x, weight, fresh(4, 70), leaves=leaves)
    with pytest.raises(ValueError, match=r"do not give out \(4, 69\)"):
        matmul_leaves(x, weight, fresh(4, 69), leaves=4)
