"""A 64-bit fingerprint of every row, the one of `kernels/cpu/fingerprint.py`, whatever dtype or device.

h(row) = sum over i of mix64((word[i] ^ salt) + (i + 1) * GOLDEN) mod 2^64, over the row as little-endian
64-bit words. Integer sums are exact in any order, so no constant of this file can move a bit.
"""

from math import gcd

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import GOLDEN, mix64
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.fingerprint splitmix64 sum"
"""Names the kernel and all of its configuration that could move a bit."""

DTYPE_CODES = {"float32": 1, "bfloat16": 2, "float16": 3, "int64": 4}
"""What goes into the salt for each dtype: part of every trace."""

WARP_WORDS = 256
"""Words a warp reads at once."""
WARPS = 8192
"""Warps that keep the memory busy: what rows there are share them."""
MOST_WARPS = 32

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
def add_words(
    ptrs, there, n_units, salt, first,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """What `n_units` at `ptrs` [ROWS, 1] add to fingerprints, PARTS units a word; `first` words precede.

    AHEAD blocks of WORDS are loaded at once.
    """
    word = tl.arange(0, WORDS)[None, :]
    step = (word + (first + 1)).to(tl.uint64) * GOLDEN
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
    return tl.sum(total, axis=1)


@triton.jit
def hash_rows(
    ptrs, there, n_units, code_and_width,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Fingerprints of ROWS rows of `n_units` at `ptrs` [ROWS, 1], PARTS units a word, AHEAD loads at once."""
    salt = mix64(code_and_width.to(tl.uint64))
    hashed = add_words(ptrs, there, n_units, salt, 0, PARTS, ROWS, WORDS, AHEAD)
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
    hashed = hash_rows(ptrs, there[:, None], n_units, code_and_width, PARTS, ROWS, WORDS, 1)
    tl.store(out_ptr + rows, hashed, mask=there)


def expect_rows(kernel: str, name: str, x: DeviceArray, rows: int) -> tuple[int, int, int]:
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


def expect_out(kernel: str, out: DeviceArray, shape: tuple[int, ...]) -> None:
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
    size, stride, code_and_width = expect_rows("fingerprint", "x", x, rows)
    expect_out("fingerprint", out, (rows,))
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
