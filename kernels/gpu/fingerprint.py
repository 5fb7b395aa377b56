"""A 64-bit fingerprint of every row, the one of `kernels/cpu/fingerprint.py`, whatever dtype or device.

h(row) = sum over i of mix64((word[i] ^ salt) + (i + 1) * GOLDEN) mod 2^64, over the row as little-endian
64-bit words. Integer sums are exact in any order, so no constant of this file can move a bit.
"""

from collections.abc import Sequence
from math import gcd

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import GOLDEN, mix64
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.fingerprint splitmix64 sum"
"""Names the kernel and all of its configuration that could move a bit."""

DTYPE_CODES = {"float32": 1, "bfloat16": 2, "float16": 3, "int64": 4}
"""What goes into the salt for each dtype: part of every trace."""

SLOTS = 20
"""Arrays that one launch of `fingerprints` reads."""
WARP_WORDS = 256
"""Words a warp reads at once."""
WARPS = 8192
"""Warps that keep the memory busy: what rows there are share them."""
MOST_WARPS = 32
MANY_WARP_WORDS = 128
"""WARP_WORDS of `fingerprints`."""
AHEAD = 4
"""Blocks of words whose loads a program of `fingerprints` has under way together."""
FEW_ROWS, FEW_WARPS, MANY_WARPS = 16, 16, 8
"""Up to FEW_ROWS rows, FEW_WARPS warps share one in `fingerprints`, then MANY_WARPS."""

ALL = tl.constexpr(0xFFFFFFFFFFFFFFFF)


@triton.jit
def _load(ptrs, there, unit, n_units, PARTS: tl.constexpr):
    """The words whose first units are `unit`, of PARTS units each; 0 where there is none."""
    bits = tl.load(ptrs + unit, mask=there & (unit < n_units), other=0).to(tl.uint64)
    for part in tl.static_range(1, PARTS):
        more = tl.load(ptrs + unit + part, mask=there & (unit + part < n_units), other=0)
        bits |= more.to(tl.uint64) << (part * (64 // PARTS))
    return bits


@triton.jit
def _hash(
    ptrs, there, n_units, code_and_width,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Fingerprints of ROWS rows of `n_units` at `ptrs` [ROWS, 1], PARTS units a word, AHEAD loads at once."""
    salt = mix64(code_and_width.to(tl.uint64))
    word = tl.arange(0, WORDS)[None, :]
    step = (word + 1).to(tl.uint64) * GOLDEN
    total = tl.zeros((ROWS, WORDS), tl.uint64)
    UNITS: tl.constexpr = WORDS * PARTS
    for start in range(0, n_units, AHEAD * UNITS):
        unit = start + word * PARTS
        # all of them are under way before the first is waited for
        loaded = ()
        for i in tl.static_range(AHEAD):
            loaded = loaded + (_load(ptrs, there, unit + i * UNITS, n_units, PARTS),)  # type: ignore[assignment]  # noqa: RUF005
        for i in tl.static_range(AHEAD):
            if start + i * UNITS < n_units:
                mask = there & (unit + i * UNITS < n_units)
                total += tl.where(mask, mix64((loaded[i] ^ salt) + step), 0)
            step += (WORDS * GOLDEN) & ALL
    hashed = tl.sum(total, axis=1)
    # 0 is no row's
    return tl.where(hashed == 0, 1, hashed)


@triton.jit
def _fingerprint_kernel(
    x_ptr, out_ptr, n_rows, n_units, code_and_width, x_stride,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = rows < n_rows
    ptrs = x_ptr + (rows * x_stride)[:, None]
    hashed = _hash(ptrs, there[:, None], n_units, code_and_width, PARTS, ROWS, WORDS, 1)
    tl.store(out_ptr + rows, hashed, mask=there)


@triton.jit
def _pick(
    slot, v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19,
):  # fmt: skip
    values = (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19)
    picked = v0.to(tl.int64)
    for i in tl.static_range(1, 20):
        picked = tl.where(slot == i, values[i].to(tl.int64), picked)
    return picked


_MANY = [f"{kind}{slot}" for kind in "asw" for slot in range(SLOTS)]


@triton.jit(do_not_specialize=_MANY)
def _fingerprints_kernel(
    out_ptr, out_stride,
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
    s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17, s18, s19,
    w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19,
    UNIT: tl.constexpr, ALIGNED: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    row, slot = tl.program_id(0).to(tl.int64), tl.program_id(1)
    address = _pick(
        slot, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19
    )
    stride = _pick(
        slot, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17, s18, s19
    )
    code_and_width = _pick(
        slot, w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19
    )
    # above both, because rows are launched from the widest down: where the array stands in `arrays`
    place = code_and_width >> 40
    code_and_width &= 0xFFFFFFFFFF
    code, width = code_and_width >> 32, (code_and_width & 0xFFFFFFFF).to(tl.int32)
    # DTYPE_CODES: float32 is 1, int64 is 4, the others have two bytes
    n_bytes = width * tl.where(code == 1, 4, tl.where(code == 4, 8, 2))
    address += row * stride
    n_units = n_bytes // UNIT
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
    ptrs = ptr + tl.zeros((1, 1), tl.int32)
    hashed = _hash(ptrs, True, n_units, code_and_width, 8 // UNIT, 1, WORDS, AHEAD)
    tl.store(out_ptr + place * out_stride + row + tl.arange(0, 1), hashed)


def _expect(kernel: str, name: str, x: DeviceArray, rows: int) -> tuple[int, int, int]:
    """Bytes of a row, bytes from row to row, and what goes into the salt; ValueError where x is no such."""
    if x.dtype not in DTYPE_CODES or x.ndim != 2 or x.shape[0] != rows:
        raise ValueError(
            f"{kernel}: {name} is {x.dtype} {list(x.shape)}, expected [{rows}, width] of "
            f"{', '.join(DTYPE_CODES)}"
        )
    if x.strides[1] != 1 and x.shape[1] > 1:
        raise ValueError(f"{kernel}: the rows of {name} are not contiguous: strides {list(x.strides)}")
    size = x.dtype.itemsize
    return x.shape[1] * size, x.strides[0] * size, (DTYPE_CODES[x.dtype] << 32) + x.shape[1]


def _expect_out(kernel: str, out: DeviceArray, shape: tuple[int, ...]) -> None:
    if out.dtype != "uint64" or out.shape != shape or (out.strides[-1] != 1 and shape[-1] > 1):
        raise ValueError(
            f"{kernel}: out is {out.dtype} {list(out.shape)} with strides {list(out.strides)}, "
            f"expected uint64 {list(shape)}, rows contiguous"
        )


def fingerprint(x: DeviceArray, out: DeviceArray) -> DeviceArray:
    """The fingerprint of every row of x; gives `out`.

    x [R, width] of a dtype in DTYPE_CODES, rows contiguous and at any stride; out uint64 [R], contiguous;
    never 0.
    """
    rows = x.shape[0]
    size, stride, code_and_width = _expect("fingerprint", "x", x, rows)
    _expect_out("fingerprint", out, (rows,))
    # the widest loads that every row's start and end allow
    unit = gcd(8, x.address, size, stride if rows > 1 else 0)
    words = triton.next_power_of_2(max(cdiv(size, 8), 1))
    share = triton.next_power_of_2(WARPS // max(rows, 1) + 1) // 2
    warps = max(min(words // WARP_WORDS, share, MOST_WARPS), 1)
    words = min(words, warps * WARP_WORDS)
    group = warps * WARP_WORDS // words
    launch(
        _fingerprint_kernel, (cdiv(rows, group),), DeviceArray(x.address, f"uint{8 * unit}", x.shape), out,
        rows, size // unit, code_and_width, stride // unit,
        PARTS=8 // unit, ROWS=group, WORDS=words, num_warps=warps,
    )  # fmt: skip
    return out


def fingerprints(arrays: Sequence[DeviceArray], out: DeviceArray) -> DeviceArray:
    """`fingerprint` of each array into its row of `out`, in one launch for every SLOTS arrays; gives `out`.

    arrays: as `fingerprint`'s x, each [R, its width]; out uint64 [len(arrays), R], rows contiguous. A launch
    carries addresses, strides and widths as its arguments, so that a graph may capture it.
    """
    rows = out.shape[-1]
    _expect_out("fingerprints", out, (len(arrays), rows))
    for start in range(0, len(arrays), SLOTS):
        some = [
            (*_expect("fingerprints", f"array {start + i}", x, rows), x.address, i)
            for i, x in enumerate(arrays[start : start + SLOTS])
        ]
        # the widest rows take longest: they are started first
        sizes, strides, kinds, addresses, places = zip(*sorted(some, reverse=True), strict=True)
        widths = tuple(kind + (place << 40) for kind, place in zip(kinds, places, strict=True))
        finest = gcd(16, *addresses, *sizes, *(strides if rows > 1 else ()))
        spare, warps = SLOTS - len(some), FEW_WARPS if rows <= FEW_ROWS else MANY_WARPS
        columns = (column + column[:1] * spare for column in (addresses, strides, widths))
        launch(
            _fingerprints_kernel, (rows, len(some)), out[start], out.strides[0],
            *(value for column in columns for value in column),
            UNIT=min(finest, 8), ALIGNED=finest == 16, WORDS=warps * MANY_WARP_WORDS,
            AHEAD=AHEAD, num_warps=warps,
        )  # fmt: skip
    return out
