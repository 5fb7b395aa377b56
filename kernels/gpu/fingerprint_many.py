"""Fingerprints of many arrays in one launch: those of `fingerprint.py`, which this reads as fast as it can.

What a launch needs to know of each array goes with it as arguments, or lies in a table on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.fingerprint import expect_out, expect_rows, hash_rows
from detrec.kernels.launch import launch, tl, triton

SLOTS = 20
"""Arrays that one launch of `fingerprints` reads."""
FEW, CROWD, NARROW = 256, 8192, 8192
"""Rows of all arrays of a launch, and bytes of the widest, by which 4, 8 or 16 warps share a row."""
AHEAD = 4
"""Blocks of words whose loads a program of many arrays has under way together."""


@triton.jit
def pick(
    slot, v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19,
):  # fmt: skip
    values = (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19)
    picked = v0.to(tl.int64)
    for i in tl.static_range(1, 20):
        picked = tl.where(slot == i, values[i].to(tl.int64), picked)
    return picked


@triton.jit
def units_of(address, n_bytes, UNIT: tl.constexpr, ALIGNED: tl.constexpr):
    """Pointers [1, 1] to units of UNIT bytes at an address, and how many of them there are."""
    n_units = (n_bytes // UNIT).to(tl.int32)
    if ALIGNED:
        address = tl.multiple_of(address, 16)
        n_units = tl.multiple_of(n_units, 2)
    if UNIT == 8:
        ptr = address.to(tl.pointer_type(tl.uint64))
    elif UNIT == 4:
        ptr = address.to(tl.pointer_type(tl.uint32))
    else:
        ptr = address.to(tl.pointer_type(tl.uint16))
    if ALIGNED:
        ptr = tl.multiple_of(ptr, 16)
    return ptr + tl.zeros((1, 1), tl.int32), n_units


@triton.jit
def _fingerprint_of(
    row, address, stride, code_and_width, out_ptr, out_stride,
    UNIT: tl.constexpr, ALIGNED: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """One row of one of many arrays."""
    # above both, because rows are launched from the widest down: where the array stands in `arrays`
    place = code_and_width >> 40
    code_and_width &= 0xFFFFFFFFFF
    code, width = code_and_width >> 32, (code_and_width & 0xFFFFFFFF).to(tl.int32)
    # DTYPE_CODES: float32 is 1, int64 is 4, the others have two bytes
    n_bytes = width * tl.where(code == 1, 4, tl.where(code == 4, 8, 2))
    ptrs, n_units = units_of(address + row * stride, n_bytes, UNIT, ALIGNED)
    hashed = hash_rows(ptrs, True, n_units, code_and_width, 8 // UNIT, 1, WORDS, AHEAD)
    tl.store(out_ptr + place * out_stride + row + tl.arange(0, 1), hashed)


MANY = [f"{kind}{slot}" for kind in "asw" for slot in range(SLOTS)]
"""Names of the addresses, strides and widths of a kernel that reads SLOTS arrays."""


@triton.jit(do_not_specialize=MANY)
def _fingerprints_kernel(
    out_ptr, out_stride,
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
    s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17, s18, s19,
    w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19,
    UNIT: tl.constexpr, ALIGNED: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr,
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
    _fingerprint_of(row, address, stride, code_and_width, out_ptr, out_stride, UNIT, ALIGNED, WORDS, AHEAD)


@triton.jit
def _table_kernel(
    out_ptr, out_stride, table_ptr,
    UNIT: tl.constexpr, ALIGNED: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    row, entry = tl.program_id(0).to(tl.int64), table_ptr + tl.program_id(1) * 3
    address, stride, code_and_width = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    _fingerprint_of(row, address, stride, code_and_width, out_ptr, out_stride, UNIT, ALIGNED, WORDS, AHEAD)


@dataclass(frozen=True, slots=True)
class FingerprintTable:
    """Arrays to be fingerprinted together: int64 [arrays, 3] for the device, and what a launch takes from it.

    An entry has the address of an array, the bytes from row to row, and code and width below its place.
    """

    entries: np.ndarray
    rows: int
    unit: int
    aligned: bool
    warps: int

    def moved(self, addresses: np.ndarray, whose: np.ndarray) -> "FingerprintTable":
        """The table of arrays like these that lie at `addresses` int64 [arrays].

        `whose` int [arrays]: of which entry each is. This table's own arrays lie at multiples of 16.
        """
        entries = self.entries.copy()
        entries[whose, 0] = addresses
        finest = gcd(16 if self.aligned else self.unit, int(np.bitwise_or.reduce(addresses)))
        return replace(self, entries=entries, unit=min(finest, 8), aligned=finest == 16)

    def arguments(self) -> list[int]:
        """MANY's values; slots without an array repeat the first, and no program runs for them."""
        spare = SLOTS - len(self.entries)
        return [value for column in self.entries.T.tolist() for value in column + column[:1] * spare]


def fingerprint_table(
    arrays: Sequence[tuple[int, DeviceArray]], kernel: str = "table", rows: int | None = None,
    edges: Sequence[int] = (),
) -> FingerprintTable:  # fmt: skip
    """The table of arrays [R, its width], each with its place: the row of `out` that it fills.

    `rows` is R, else the first one's; `edges`: bytes at whose multiples rows are cut, besides their ends.
    """
    rows = arrays[0][1].shape[0] if rows is None else rows
    some = [(*expect_rows(kernel, f"array {place}", x, rows), x.address, place) for place, x in arrays]
    # the widest rows take longest: they are started first
    sizes, strides, kinds, addresses, places = zip(*sorted(some, reverse=True), strict=True)
    widths = [kind + (place << 40) for kind, place in zip(kinds, places, strict=True)]
    finest = gcd(16, *addresses, *sizes, *edges, *(strides if rows > 1 else ()))
    programs = rows * len(some)
    warps = 16 if programs <= FEW else 8
    if sizes[0] <= NARROW or programs > CROWD:
        warps = 4
    entries = np.array([addresses, strides, widths], np.int64).T
    return FingerprintTable(entries, rows, min(finest, 8), finest == 16, warps)


def fingerprints(arrays: Sequence[DeviceArray], out: DeviceArray) -> DeviceArray:
    """`fingerprint` of each array into its row of `out`, in one launch for every SLOTS arrays; gives `out`.

    arrays: as `fingerprint`'s x, each [R, its width]; out uint64 [len(arrays), R], rows contiguous. A launch
    carries addresses, strides and widths as its arguments, so that a graph may capture it.
    """
    rows = out.shape[-1]
    expect_out("fingerprints", out, (len(arrays), rows))
    for start in range(0, len(arrays), SLOTS):
        some = [*enumerate(arrays[start : start + SLOTS], start)]
        table = fingerprint_table(some, "fingerprints", rows)
        launch(
            _fingerprints_kernel, (rows, len(some)), out, out.strides[0], *table.arguments(),
            UNIT=table.unit, ALIGNED=table.aligned, WORDS=table.warps * _words(table.warps), AHEAD=AHEAD,
            num_warps=table.warps,
        )  # fmt: skip
    return out


def fingerprints_of(table: FingerprintTable, entries: DeviceArray, out: DeviceArray) -> DeviceArray:
    """The same of any number of arrays in one launch: `entries` is a copy of `table.entries` on the device.

    out uint64 [P, R], rows contiguous, P more than any place of the table.
    """
    launch(
        _table_kernel, (table.rows, len(table.entries)), out, out.strides[0], entries,
        UNIT=table.unit, ALIGNED=table.aligned, WORDS=table.warps * _words(table.warps), AHEAD=AHEAD,
        num_warps=table.warps,
    )  # fmt: skip
    return out


def _words(warps: int) -> int:
    """How many words each of so many warps reads at once."""
    return 64 if warps == 4 else 128
