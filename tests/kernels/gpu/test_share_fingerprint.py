"""Shares of rows hashed on the GPU: those of the CPU, which the ranks' sum makes the whole row's."""

from types import SimpleNamespace

import numpy as np
import pytest

from detrec.kernels.cpu import fingerprint as cpu
from detrec.kernels.gpu.fingerprint_many import SLOTS
from detrec.kernels.gpu.share_fingerprint import ShareTable, share_fingerprints, share_table
from detrec.kernels.share import Share, Span, summed
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, fresh, host
from tests.kernels.gpu.test_fingerprint import rand
from tests.kernels.test_share import parts, qkv_shares


def table(*shares: Share | None) -> ShareTable:
    return share_table(shares, SimpleNamespace(copy=device))


def hashed(arrays, shares: ShareTable, first: int = 0) -> np.ndarray:
    return host(share_fingerprints(arrays, shares, first, fresh((len(arrays), len(arrays[0])), "uint64")))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("ranks", "heads", "kv_heads"), [(1, 4, 2), (2, 4, 2), (3, 6, 3), (4, 8, 2)])
def test_shares_add_up_to_the_whole_row(dtype, ranks, heads, kv_heads):
    shares = qkv_shares(ranks, heads, kv_heads)
    x = rand(5, shares[0].width, dtype)
    each = np.stack([hashed([device(parts(x, share))], table(share))[0] for share in shares], axis=1)
    assert_same_bits(summed(each), cpu.reference(x, dtype))


# 8: spans start at any multiple of 32 bytes. 4: of 16. 2: of 8; of bfloat16 half of that.
@pytest.mark.parametrize("unit", [8, 4, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_is_the_fingerprint_of_the_cpu(unit, dtype):
    unit *= 2 if dtype == "bfloat16" else 1
    share = Share(64 * unit, (Span(0, 3 * unit, unit), Span(unit, 9 * unit, 5 * unit, -1)))
    x, whole = rand(6, share.length + 3 * unit, dtype)[:, 3 * unit :], rand(6, 77, dtype)
    expected = np.zeros((2, 6), np.uint64)
    cpu.share_fingerprint(np.ascontiguousarray(x), share, expected[0])
    cpu.fingerprint(whole, expected[1])
    # ops that are not cut stand among those that are
    assert_same_bits(hashed([device(x), device(whole)], table(None, share, None), first=1), expected)


def test_spans_that_are_wider_than_a_tile():
    share = Share(9000, (Span(0, 100, 4100), Span(4100, 4500, 4500)))
    x, expected = rand(2, share.length, "float32"), np.zeros(2, np.uint64)
    assert_same_bits(hashed([device(x)], table(share))[0], cpu.share_fingerprint(x, share, expected))


def test_more_than_one_launch_carries():
    shares = [None if i % 3 else Share(64, (Span(0, 4 * (i % 8), 8),)) for i in range(SLOTS + 3)]
    arrays = [rand(2, 8, "float32") + np.float32(i) for i in range(SLOTS + 3)]
    expected = np.zeros((SLOTS + 3, 2), np.uint64)
    for x, share, out in zip(arrays, shares, expected, strict=True):
        cpu.fingerprint(x, out) if share is None else cpu.share_fingerprint(x, share, out)
    assert_same_bits(hashed([device(x) for x in arrays], table(*shares)), expected)


def test_no_rows():
    assert hashed([fresh((0, 4), "float32")], table(Share(8, (Span(0, 4, 4),)))).shape == (1, 0)


def test_rejects():
    share = Share(8, (Span(0, 4, 4),))
    with pytest.raises(ValueError, match=r"array 0 is \[2, 5\], its share is \[2, 4\]"):
        hashed([fresh((2, 5), "float32")], table(share))
    with pytest.raises(ValueError, match="more than 3 spans"):
        table(Share(8, tuple(Span(i, i, 1) for i in range(4))))
    with pytest.raises(ValueError, match=r"array 0 is float32 \[1, 4\], expected \[2, width\]"):
        share_fingerprints([fresh((1, 4), "float32")], table(share), 0, fresh((1, 2), "uint64"))
