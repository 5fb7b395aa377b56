"""Shares of a row: checked before a run, and added up to the fingerprint of the whole row."""

import numpy as np
import pytest

from detrec.errors import ConfigError
from detrec.kernels.cpu.fingerprint import fingerprint, share_fingerprint
from detrec.kernels.share import Share, Span, check_shares, summed, times_of
from tests.bits import assert_same_bits

HEAD = 8


def qkv_shares(ranks: int, heads: int, kv_heads: int) -> list[Share]:
    """Rows of q, k and v; where there are more ranks than KV heads, several hold the same one."""
    width = (heads + 2 * kv_heads) * HEAD
    q, copies = heads // ranks * HEAD, max(ranks // kv_heads, 1)
    kv = max(kv_heads // ranks, 1) * HEAD
    shares = []
    for rank in range(ranks):
        at, times = rank // copies * kv, times_of(rank % copies, copies)
        k, v = heads * HEAD + at, (heads + kv_heads) * HEAD + at
        spans = Span(0, rank * q, q), Span(q, k, kv, times), Span(q + kv, v, kv, times)
        shares.append(Share(width, spans))
    return shares


def parts(x: np.ndarray, share: Share) -> np.ndarray:
    """What a rank holds of the whole rows x."""
    return np.concatenate([x[:, span.at : span.at + span.length] for span in share.spans], axis=1)


def rand(rows: int, width: int, dtype: type) -> np.ndarray:
    data = np.random.default_rng(5).integers(0, 256, rows * width * np.dtype(dtype).itemsize, np.uint8)
    return data.view(dtype).reshape(rows, width)


def prints(x: np.ndarray, share: Share | None = None) -> np.ndarray:
    out = np.zeros(len(x), np.uint64)
    return fingerprint(x, out) if share is None else share_fingerprint(x, share, out)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize(
    ("ranks", "heads", "kv_heads"), [(1, 4, 2), (2, 4, 2), (3, 6, 3), (4, 8, 2), (8, 8, 1)]
)
def test_shares_add_up_to_the_whole_row(dtype, ranks, heads, kv_heads):
    shares = qkv_shares(ranks, heads, kv_heads)
    check_shares("0.qkv", shares, np.dtype(dtype).itemsize)
    x = rand(9, shares[0].width, dtype)
    each = np.stack([prints(parts(x, share), share) for share in shares], axis=1)
    assert_same_bits(summed(each), prints(x))


def test_a_bit_of_any_copy_shows_in_the_sum():
    shares = qkv_shares(4, 8, 1)
    x = rand(1, shares[0].width, np.float32)
    held = [parts(x, share) for share in shares]
    for rank in range(4):
        changed = [part.copy() for part in held]
        # the last element of v, of which every rank has a copy
        changed[rank].view(np.uint32)[0, -1] ^= 1
        each = np.stack([prints(part, share) for part, share in zip(changed, shares, strict=True)], axis=1)
        assert summed(each) != prints(x)


def test_a_row_may_end_inside_a_word():
    x = rand(3, 21, np.float32)
    shares = [Share(21, (Span(0, 0, 8),)), Share(21, (Span(0, 8, 13),))]
    check_shares("logits", shares, 4)
    each = np.stack([prints(np.ascontiguousarray(parts(x, share)), share) for share in shares], axis=1)
    assert_same_bits(summed(each), prints(x))


def test_rows_of_a_share_may_lie_at_a_stride():
    share = Share(64, (Span(0, 16, 8), Span(8, 48, 8)))
    x = rand(5, 40, np.float32)
    assert_same_bits(prints(x[:, 3:19], share), prints(np.ascontiguousarray(x[:, 3:19]), share))


@pytest.mark.parametrize("copies", range(1, 9))
def test_copies_count_once_in_sum_and_none_is_left_out(copies):
    times = [times_of(copy, copies) for copy in range(copies)]
    assert sum(times) == 1
    assert all(times)


def test_a_sum_lacks_what_a_rank_did_not_record():
    every, none = np.uint64(2**64 - 3), np.uint64(0)
    assert summed(np.array([[every, 5], [every, 3], [every, none]], np.uint64)).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("shares", "itemsize", "error", "match"),
    [
        pytest.param(
            [Share(12, (Span(0, 0, 6),)), Share(12, (Span(0, 6, 6),))], 2, ConfigError,
            "2 ranks cut 0.attn at element 6 of 12, which is not a multiple of 4", id="inside a word",
        ),
        pytest.param([Share(8, (Span(0, 0, 4),))] * 2, 4, ValueError, "do not cover", id="twice the same"),
        pytest.param(
            [Share(8, (Span(0, 0, 4),)), Share(9, (Span(0, 4, 5),))], 4, ValueError, r"rows of \[8, 9\]",
            id="other widths",
        ),
        pytest.param([Share(8, (Span(0, 4, 8),))], 4, ValueError, "does not fit", id="beyond the row"),
        pytest.param([Share(8, (Span(2, 0, 8),))], 4, ValueError, "does not fit", id="a hole before it"),
    ],
)  # fmt: skip
def test_shares_that_do_not_make_a_row_are_refused(shares, itemsize, error, match):
    with pytest.raises(error, match=match):
        check_shares("0.attn", shares, itemsize)


@pytest.mark.parametrize(
    ("x", "out"),
    [
        (np.zeros((2, 5), np.float32), np.zeros(2, np.uint64)),
        (np.zeros((2, 4), np.float64), np.zeros(2, np.uint64)),
        (np.zeros((2, 8), np.float32)[:, ::2], np.zeros(2, np.uint64)),
        (np.zeros((2, 4), np.float32), np.zeros(3, np.uint64)),
    ],
)
def test_rejects(x, out):
    with pytest.raises(ValueError, match="share_fingerprint: "):
        share_fingerprint(x, Share(8, (Span(0, 4, 4),)), out)


def test_no_rows():
    assert prints(np.zeros((0, 4), np.float32), Share(8, (Span(0, 4, 4),))).shape == (0,)
