"""Fingerprints of what one rank holds of rows that are cut over ranks: many arrays in one launch.

The sum over the ranks is the whole row's fingerprint, as `kernels/share.py` says. Integer sums are exact in
any order, so no constant of this file can move a bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.fingerprint import add_words, expect_out
from detrec.kernels.gpu.fingerprint_many import MANY, SLOTS, fingerprint_table, pick, units_of
from detrec.kernels.gpu.portable import mix64
from detrec.kernels.launch import launch, tl, triton
from detrec.kernels.share import Share

KERNEL = "gpu.share_fingerprint splitmix64 sum"
"""Names the kernel and all of its configuration that could move a bit."""

FEW_ROWS, FEW_WARPS, MANY_WARPS, WARP_WORDS = 16, 16, 8, 128
"""Up to FEW_ROWS rows, FEW_WARPS warps share one, then MANY_WARPS; each reads WARP_WORDS at once."""
SPANS = 3
"""Spans of a row at most: q, k and v."""


@dataclass(frozen=True, slots=True)
class ShareTable:
    """The shares of some ops where kernels read them; an op without one is hashed whole.

    `table` int64 [ops, 1 + 4 * SPANS]: the whole row's width, 0 for no share, and each span's start, at,
    length, times. All starts and lengths are multiples of `unit` elements. `lengths`: what an op's rows hold.
    """

    table: DeviceArray
    unit: int
    lengths: tuple[int | None, ...]


def share_table(shares: Sequence[Share | None], device: Device) -> ShareTable:
    """The table of `shares`, one an op. ValueError for one of more than SPANS spans."""
    table = np.zeros((len(shares), 1 + 4 * SPANS), np.int64)
    unit = 0
    for row, share in zip(table, shares, strict=True):
        if share is None:
            continue
        if len(share.spans) > SPANS:
            raise ValueError(f"share_table: {share} has more than {SPANS} spans")
        row[0] = share.width
        row[1 : 1 + share.table.size] = share.table.reshape(-1)
        unit = gcd(unit, *(part for span in share.spans for part in (span.start, span.length)))
    lengths = tuple(None if share is None else share.length for share in shares)
    return ShareTable(device.copy(table), unit, lengths)


@triton.jit(do_not_specialize=["first_op", *MANY])
def _share_fingerprints_kernel(
    out_ptr, out_stride, table_ptr, first_op,
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
    s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17, s18, s19,
    w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19,
    UNIT: tl.constexpr, ALIGNED: tl.constexpr, SPANS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    row, slot = tl.program_id(0).to(tl.int64), tl.program_id(1)
    address = pick(
        slot, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19
    )
    stride = pick(
        slot, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17, s18, s19
    )
    code_and_width = pick(
        slot, w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19
    )
    # as in kernels/gpu/fingerprint_many.py
    place = code_and_width >> 40
    code_and_width &= 0xFFFFFFFFFF
    code, width = code_and_width >> 32, code_and_width & 0xFFFFFFFF
    size = tl.where(code == 1, 4, tl.where(code == 4, 8, 2)).to(tl.int64)
    address += row * stride
    table_ptr += (first_op + place) * (1 + 4 * SPANS)
    whole = tl.load(table_ptr)
    cut = whole > 0
    salt = mix64(((code << 32) + tl.where(cut, whole, width)).to(tl.uint64))
    total = tl.zeros((1,), tl.uint64)
    for span in tl.static_range(SPANS):
        start = tl.load(table_ptr + 1 + 4 * span)
        at = tl.load(table_ptr + 2 + 4 * span)
        length = tl.load(table_ptr + 3 + 4 * span)
        times = tl.load(table_ptr + 4 + 4 * span)
        if span == 0:
            length = tl.where(cut, length, width)
            times = tl.where(cut, times, 1)
        ptrs, n_units = units_of(address + start * size, length * size, UNIT, ALIGNED)
        words = add_words(ptrs, True, n_units, salt, at * size // 8, 8 // UNIT, 1, WORDS, 1)
        total += words * times.to(tl.uint64)
    # 0 is no row's
    tl.store(out_ptr + place * out_stride + row + tl.arange(0, 1), tl.where(total == 0, 1, total))


def share_fingerprints(
    arrays: Sequence[DeviceArray], shares: ShareTable, first: int, out: DeviceArray
) -> DeviceArray:
    """What each array's rows add to whole rows' fingerprints, into its row of `out`; gives `out`.

    arrays: [R, its share's length, or any width for an op without one], rows contiguous and at any stride;
    array i is op `first + i` of `shares`; out uint64 [len(arrays), R], rows contiguous; never 0. A launch for
    every SLOTS arrays, whose arguments a graph may capture.
    """
    rows, kernel = out.shape[-1], "share_fingerprints"
    expect_out(kernel, out, (len(arrays), rows))
    for i, (x, length) in enumerate(zip(arrays, shares.lengths[first:], strict=False)):
        if length is not None and x.shape[1:] != (length,):
            raise ValueError(f"{kernel}: array {i} is {list(x.shape)}, its share is [{rows}, {length}]")
    for start in range(0, len(arrays), SLOTS):
        some = [*enumerate(arrays[start : start + SLOTS], start)]
        table = fingerprint_table(some, kernel, rows, [x.dtype.itemsize * shares.unit for _, x in some])
        warps = FEW_WARPS if rows <= FEW_ROWS else MANY_WARPS
        launch(
            _share_fingerprints_kernel, (rows, len(some)), out, out.strides[0], shares.table, first,
            *table.arguments(), UNIT=table.unit, ALIGNED=table.aligned, SPANS=SPANS, WORDS=warps * WARP_WORDS,
            num_warps=warps,
        )  # fmt: skip
    return out
