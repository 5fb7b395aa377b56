"""A 64-bit fingerprint of every row: two rows of equal bits have equal fingerprints, on every device.

h(row) = sum over i of mix((word[i] ^ salt) + (i + 1) * GAMMA) mod 2^64, over the row's bytes as little-endian
64-bit words, the last one padded with zero bytes. `mix` is the finaliser of splitmix64 (Steele, Lea and
Flood, Fast Splittable Pseudorandom Number Generators, 2014), a bijection: a change within one word always
changes h. The salt keeps rows of another dtype or width apart. Integer sums are exact in any order, so a
thread count or a GPU cannot change them.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import get_num_threads, prange, types
from numba.extending import intrinsic

from detrec.kernels.cpu.compiling import compiled, shared
from detrec.kernels.share import Share

KERNEL = "cpu.fingerprint splitmix64 sum"
"""Names the kernel and all of its configuration that could move a bit."""

DTYPE_CODES = {"float32": 1, "bfloat16": 2, "float16": 3, "int64": 4}
"""What goes into the salt for each dtype: part of every trace."""

NOT_RECORDED = 0
"""No row has this fingerprint."""

_CODES = {np.dtype(np.float32): 1, np.dtype(np.uint16): 2, np.dtype(np.int64): 4}
_UINT64 = np.dtype(np.uint64)

# bytes below which a second thread costs more than it brings
SERIAL = 1 << 20

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX1, MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S27, S30, S31, S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
ZERO = np.uint64(NOT_RECORDED)
STANDS_FOR_ZERO = np.uint64(1)

_I8, _I64 = ir.IntType(8), ir.IntType(64)


def _load(kind: ir.IntType) -> Any:
    def typed(typingctx: Any, base: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # an address that is computed in integers would hide from LLVM that words are neighbours: it
            # would gather them, at less than half the speed
            element = builder.gep(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
            # a row may begin at any byte
            return builder.zext(builder.load(element, align=1), _I64)

        return types.uint64(types.intp, types.intp), codegen

    return intrinsic(typed)


_word_at, _byte_at = _load(_I64), _load(_I8)


@compiled
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> S30)) * MIX1
    x = (x ^ (x >> S27)) * MIX2
    return x ^ (x >> S31)


@compiled
def salt(code: int, width: int) -> int:
    """What separates rows by dtype (one of DTYPE_CODES) and by width in elements."""
    return _mix((np.uint64(code) << S32) + np.uint64(width))


@compiled
def _sum(address: int, size: int, salt: np.uint64, step: np.uint64) -> np.uint64:
    """What `size` bytes at `address` add to a fingerprint; `step` is GAMMA times the words before them."""
    total = ZERO
    for word in range(size >> 3):
        step += GAMMA
        total += _mix((_word_at(address, word) ^ salt) + step)
    if size & 7:
        last = ZERO
        for byte in range(size & 7):
            last |= _byte_at(address, (size & ~7) + byte) << np.uint64(8 * byte)
        total += _mix((last ^ salt) + (step + GAMMA))
    return total


@compiled
def _row(address: int, size: int, salt: np.uint64) -> np.uint64:
    """The fingerprint of `size` bytes at `address`."""
    total = _sum(address, size, salt, ZERO)
    return total if total != ZERO else STANDS_FOR_ZERO


@compiled
def _shares(
    address: int, stride: int, itemsize: int, mark: np.uint64, spans: np.ndarray, out: np.ndarray
) -> None:
    for row in range(len(out)):
        total = ZERO
        for span in range(len(spans)):
            start, at, length, times = spans[span]
            step = GAMMA * np.uint64(at * itemsize >> 3)
            base = address + row * stride + start * itemsize
            total += _sum(base, length * itemsize, mark, step) * np.uint64(times)
        out[row] = total if total != ZERO else STANDS_FOR_ZERO


@compiled
def _serial(x: np.ndarray, code: int, out: np.ndarray) -> bool:
    """Whether [rows, width] and [rows] fit and one thread will do; where not, nothing is done."""
    rows, width = x.shape
    fits = len(out) == rows and (rows <= 1 or out.strides[0] == out.itemsize)
    whole = width <= 1 or x.strides[1] == x.itemsize
    if not fits or not whole or (rows > 1 and rows * width * x.itemsize > SERIAL):
        return False
    address, mark = x.ctypes.data, salt(code, width)
    for row in range(rows):
        out[row] = _row(address + row * x.strides[0], width * x.itemsize, mark)
    return True


@shared
def _parallel(address: int, stride: int, size: int, mark: np.uint64, out: np.ndarray, threads: int) -> None:
    for thread in prange(threads):
        for row in range(out.size * thread // threads, out.size * (thread + 1) // threads):
            out[row] = _row(address + row * stride, size, mark)


def _words(x: np.ndarray) -> np.ndarray:
    """A vector of structures as the matrix of their 64-bit words."""
    if x.dtype.names is None or x.dtype.itemsize % 8 or x.ndim != 1:
        raise ValueError(
            f"fingerprint: x is {x.dtype} {list(x.shape)}, expected [rows, width] of float32, "
            "uint16 (bfloat16 bits) or int64, or [rows] of structures of whole 8-byte words"
        )
    return np.ascontiguousarray(x).view(np.int64).reshape(len(x), x.dtype.itemsize // 8)


def fingerprint(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The fingerprint of every row of x; gives `out`.

    x [rows, width] of float32, uint16 (bfloat16 bits) or int64, rows contiguous and at any stride; or [rows]
    of structures of whole 8-byte words, taken as int64. out uint64 [rows], contiguous; never 0. ValueError
    where they do not fit.
    """
    code = _CODES.get(x.dtype)
    # for few rows the checks cost as much as the rows: what is compiled does them in a fifth of the time
    if code is not None and x.ndim == 2 and out.ndim == 1 and out.dtype == _UINT64 and _serial(x, code, out):
        return out
    if code is None:
        x, code = _words(x), DTYPE_CODES["int64"]
    if x.ndim != 2 or (x.strides[1] != x.itemsize and x.shape[1] > 1 and x.size):
        raise ValueError(
            f"fingerprint: x has shape {list(x.shape)} and strides {x.strides}, "
            "expected [rows, width], rows contiguous"
        )
    if out.dtype != _UINT64 or out.shape != x.shape[:1] or not out.flags.c_contiguous:
        raise ValueError(
            f"fingerprint: out is {out.dtype} {list(out.shape)} with strides {out.strides}, "
            f"expected contiguous uint64 [{len(x)}]"
        )
    if not _serial(x, code, out):
        mark, size = np.uint64(salt(code, x.shape[1])), x.shape[1] * x.itemsize
        _parallel(x.ctypes.data, x.strides[0], size, mark, out, min(get_num_threads(), max(len(x), 1)))
    return out


def share_fingerprint(x: np.ndarray, share: Share, out: np.ndarray) -> np.ndarray:
    """What every row of x adds to the fingerprint of the whole row that it is a share of; gives `out`.

    x [rows, share.length] of float32 or uint16 (bfloat16 bits), rows contiguous and at any stride; out uint64
    [rows], contiguous; never 0. Runs on one thread: each rank has one. ValueError where they do not fit.
    """
    code = _CODES.get(x.dtype)
    if code is None or x.ndim != 2 or x.shape[1] != share.length or (len(x) and x.strides[1] != x.itemsize):
        raise ValueError(
            f"share_fingerprint: x is {x.dtype} {list(x.shape)} with strides {x.strides}, expected "
            f"[rows, {share.length}] of float32 or uint16 (bfloat16 bits), rows contiguous"
        )
    if out.dtype != _UINT64 or out.shape != x.shape[:1] or not out.flags.c_contiguous:
        raise ValueError(
            f"share_fingerprint: out is {out.dtype} {list(out.shape)} with strides {out.strides}, "
            f"expected contiguous uint64 [{len(x)}]"
        )
    mark = np.uint64(salt(code, share.width))
    _shares(x.ctypes.data, x.strides[0], x.itemsize, mark, share.table, out)
    return out


def reference(x: np.ndarray, dtype: str) -> np.ndarray:
    """What the kernel means, bit for bit: uint64 [rows] of x [rows, width]; `dtype` is of DTYPE_CODES."""
    data = np.ascontiguousarray(x).view(np.uint8).reshape(len(x), x.shape[1] * x.itemsize)
    words = np.pad(data, ((0, 0), (0, -data.shape[1] % 8))).view("<u8")
    steps = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * GAMMA
    mark = mixed(np.array([(DTYPE_CODES[dtype] << 32) + x.shape[1]], np.uint64))
    total = mixed((words ^ mark) + steps).sum(axis=1, dtype=np.uint64)
    return np.where(total == ZERO, STANDS_FOR_ZERO, total)


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 on every element of uint64 x."""
    x = (x ^ (x >> S30)) * MIX1
    x = (x ^ (x >> S27)) * MIX2
    return x ^ (x >> S31)
