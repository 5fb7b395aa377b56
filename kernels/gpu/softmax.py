"""Softmax and log-softmax whose every row is computed the same way, whatever rows surround it.

Invariant: a row's sum of exp32(x - max) is taken by min(8192, next power of two >= V) lanes, each from left
to right, then neighbouring lanes are added pair by pair until one is left. Nothing but V chooses that order.

A wide row is shared by WARPS warps of a few programs: each holds its lanes' elements in registers, as they
were stored, so that the row is read once, and they tell each other their maxima and their sums through
`scratch`. A word of it carries the number of its row beside its value, so that it needs no fence, which
would empty the caches, and no barrier. A program waits only for programs of its own row, which are started
next to it. While it waits it fetches its part of its next row: into L2 first, then into registers.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import EXP_MIN, exp32, exp32_between, log32, narrow
from detrec.kernels.gpu.rows import expect_rows
from detrec.kernels.launch import INTERPRETED, cdiv, launch, tl, triton

KERNEL = "gpu.log_softmax lanes=8192 pairs exp32 log32 (x-max)-log(sum)"
"""Names the kernel and all of its configuration that could move a bit."""

LANES = 8192
"""Most lanes of a row: part of every result."""

# none of these can move a bit
NUM_WARPS = 8
WARPS = 64
PARTS = {"float32": 8, "bfloat16": 4, "float16": 4}
"""Programs that share a row: where elements take twice the bits, half as many fit into registers."""
LATE = {"float32": True, "bfloat16": False, "float16": False}
"""Whether the next row is loaded once the sums of this one are known, which many loads would delay."""
PROGRAMS = 132
MOST_CHUNKS = 20
WORDS = 256
SCRATCH = PROGRAMS // min(PARTS.values()), WORDS
"""Shape of the int64 scratch of shared rows."""


@triton.jit
def _partial_sums(lanes, N: tl.constexpr, LEFT: tl.constexpr):
    """Lanes [N], N a power of two, of which neighbours are added until LEFT are left.

    Never a bare tl.sum over many lanes: its order would be the layout's.
    """
    if N == LEFT:
        return lanes
    else:  # noqa: RET505  Triton compiles one branch, and nothing that stands after both
        return _partial_sums(tl.sum(tl.reshape(lanes, [N // 2, 2]), axis=1), N // 2, LEFT)


@triton.jit
def _pair_sum(lanes, N: tl.constexpr):
    """The sum of lanes [N]: neighbours are added until one is left."""
    return tl.sum(_partial_sums(lanes, N, 1), axis=0)


@triton.jit
def _softmax_kernel(
    x_ptr, out_ptr, n_cols, x_stride, out_stride, LOGARITHM: tl.constexpr, LANES: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * x_stride
    out_ptr += row * out_stride
    lane = tl.arange(0, LANES)

    top = tl.full((LANES,), float("-inf"), tl.float32)
    for start in range(0, n_cols, LANES):
        x = tl.load(x_ptr + start + lane, mask=start + lane < n_cols, other=float("-inf")).to(tl.float32)
        # a NaN is never the maximum
        top = tl.where(x > top, x, top)
    highest = tl.max(top, axis=0)

    lanes = tl.zeros((LANES,), tl.float32)
    for start in range(0, n_cols, LANES):
        mask = start + lane < n_cols
        x = tl.load(x_ptr + start + lane, mask=mask, other=0.0).to(tl.float32)
        lanes += tl.where(mask, exp32(x - highest), 0.0)
    total = _pair_sum(lanes, LANES)

    for start in range(0, n_cols, LANES):
        mask = start + lane < n_cols
        below = tl.load(x_ptr + start + lane, mask=mask, other=0.0).to(tl.float32) - highest
        y = below - log32(total) if LOGARITHM else tl.div_rn(exp32(below), total.broadcast_to(LANES))
        tl.store(out_ptr + start + lane, narrow(y, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _higher(a, b):
    """The maximum, NaN where either is NaN: two elements an instruction where they have 16 bits."""
    if a.dtype == tl.float32:
        return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    KIND: tl.constexpr = "bf16x2" if a.dtype == tl.bfloat16 else "f16x2"
    return tl.inline_asm_elementwise(
        "max.NaN." + KIND + " $0, $1, $2;", "=r,r,r", [a, b], dtype=a.dtype, is_pure=True, pack=2
    )


@triton.jit
def _widened(x, AGAIN: tl.constexpr):
    """x as float32. AGAIN: by other instructions, else the compiler keeps what it had, in twice the bits."""
    if x.dtype != tl.bfloat16:
        return x.to(tl.float32)
    FIRST: tl.constexpr = "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;"
    SECOND: tl.constexpr = "prmt.b32 $0, $2, 0, 0x1044; prmt.b32 $1, $2, 0, 0x3244;"
    return tl.inline_asm_elementwise(
        SECOND if AGAIN else FIRST, "=f,=f,r", [x], dtype=tl.float32, is_pure=True, pack=2
    )


@triton.jit
def _exp_below(x):
    """exp32 of x <= 0; of NaN anything."""
    return tl.where(x < EXP_MIN, 0.0, exp32_between(x))


@triton.jit
def _tell(ptr, values, tag):
    words = (tag.to(tl.uint64) << 32) | values.to(tl.uint32, bitcast=True).to(tl.uint64)
    tl.store(ptr, words.to(tl.int64, bitcast=True), cache_modifier=".cg")


@triton.jit
def _value(words):
    return words.to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def _hear(ptr, tag, N: tl.constexpr):
    """What the even and the odd ones of N told, once all have: either half fits into each warp."""
    ptrs = ptr + 2 * tl.arange(0, N // 2)
    even, odd = tl.load(ptrs, volatile=True), tl.load(ptrs + 1, volatile=True)
    while tl.max((((even >> 32) != tag) | ((odd >> 32) != tag)).to(tl.int32), axis=0) != 0:
        even, odd = tl.load(ptrs, volatile=True), tl.load(ptrs + 1, volatile=True)
    return _value(even), _value(odd)


@triton.jit
def _fetch(ptr, start, n_cols, N: tl.constexpr, CHUNKS: tl.constexpr, LANES: tl.constexpr):
    """Bring lanes [start, start + N) of a row to L2, one sector of 32 bytes a thread at a time."""
    SIZE: tl.constexpr = ptr.dtype.element_ty.primitive_bitwidth // 8
    STEP: tl.constexpr = 32 // SIZE
    AT_ONCE: tl.constexpr = 8 // SIZE
    lane = start + tl.arange(0, N // STEP)[None, :] * STEP
    col = tl.arange(0, AT_ONCE)[:, None] * LANES + lane
    for first in range(0, CHUNKS, AT_ONCE):
        ptrs = ptr + tl.minimum(first * LANES + col, n_cols - 1)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.b32 $0, 0;", "=r,l", [ptrs.to(tl.int64, bitcast=True)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def _load(ptr, start, n_cols, there, N: tl.constexpr, CHUNKS: tl.constexpr, LANES: tl.constexpr):
    """Lanes [start, start + N) of a row, a tensor a chunk; -inf past its end."""
    lane = start + tl.arange(0, N)
    held = ()
    for chunk in tl.static_range(CHUNKS - 1):
        x = tl.load(ptr + chunk * LANES + lane, mask=there, other=0.0, eviction_policy="evict_first")
        held = held + (x,)  # type: ignore[assignment]  # noqa: RUF005
    col = (CHUNKS - 1) * LANES + lane
    x = tl.load(ptr + col, mask=there & (col < n_cols), other=float("-inf"))
    return held + (x,)  # noqa: RUF005


@triton.jit
def _shared_kernel(
    x_ptr, out_ptr, scratch_ptr, n_rows, n_cols, x_stride, out_stride,
    LOGARITHM: tl.constexpr, PARTS: tl.constexpr, LATE: tl.constexpr, CHUNKS: tl.constexpr,
    LANES: tl.constexpr, WARPS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = LANES // PARTS
    OWN: tl.constexpr = WARPS // PARTS
    group, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    n_groups = tl.num_programs(0) // PARTS
    start = part * N
    last = (CHUNKS - 1) * LANES + start + tl.arange(0, N)
    scratch_ptr += group * WORDS
    maxima_ptr, sums_ptr, left_ptr = scratch_ptr, scratch_ptr + WARPS, scratch_ptr + 2 * WARPS
    xs = x_ptr + tl.cast(group, tl.int64) * x_stride
    following = _load(xs, start, n_cols, group < n_rows, N, CHUNKS, LANES)
    for row in range(group, n_rows, n_groups):
        tag = row + 1
        held = following
        next_xs = x_ptr + tl.cast(row + n_groups, tl.int64) * x_stride
        more = row + n_groups < n_rows
        top = held[CHUNKS - 1]
        for chunk in tl.static_range(CHUNKS - 1):
            top = _higher(top, held[chunk])
        top = tl.reduce(tl.reshape(top.to(tl.float32), [1, N]), 1, _higher)
        _tell(maxima_ptr + part + tl.arange(0, 1), top, tag)
        if more:
            _fetch(next_xs, start, n_cols, N, CHUNKS, LANES)
        even, odd = _hear(maxima_ptr, tag, PARTS)
        highest = tl.reduce(_higher(even, odd), 0, _higher)

        lanes = tl.zeros((N,), tl.float32)
        for chunk in tl.static_range(CHUNKS):
            e = _exp_below(_widened(held[chunk], False) - highest)
            lanes += e if chunk < CHUNKS - 1 else tl.where(last < n_cols, e, 0.0)
        _tell(sums_ptr + part * OWN + tl.arange(0, OWN), _partial_sums(lanes, N, OWN), tag)
        if not LATE:
            following = _load(next_xs, start, n_cols, more, N, CHUNKS, LANES)
        even, odd = _hear(sums_ptr, tag, WARPS)
        if LATE:
            following = _load(next_xs, start, n_cols, more, N, CHUNKS, LANES)
        # where the maximum is not finite the sum is NaN, which _exp_below hid
        total = _pair_sum(even + odd, WARPS // 2) + (highest - highest)

        ys = out_ptr + tl.cast(row, tl.int64) * out_stride + start + tl.arange(0, N)
        for chunk in tl.static_range(CHUNKS):
            below = _widened(held[chunk], True) - highest
            y = below - log32(total) if LOGARITHM else tl.div_rn(_exp_below(below), total.broadcast_to(N))
            y = narrow(y, out_ptr.dtype.element_ty)
            mask = last < n_cols if chunk == CHUNKS - 1 else None
            tl.store(ys + chunk * LANES, y, mask=mask, eviction_policy="evict_first")
    # whoever leaves last leaves scratch as it was found
    if tl.atomic_add(left_ptr, 1) == PARTS - 1:
        tl.store(scratch_ptr + tl.arange(0, WORDS), tl.zeros((WORDS,), tl.int64))


def _run(kernel: str, x: DeviceArray, out: DeviceArray, scratch: DeviceArray | None) -> DeviceArray:
    expect_rows(kernel, x=x, out=out)
    if out.shape != x.shape or not x.shape[1]:
        raise ValueError(
            f"{kernel}: x has shape {list(x.shape)}, out {list(out.shape)}, expected one [S, V > 0]"
        )
    if out.dtype not in ("float32", x.dtype):
        raise ValueError(f"{kernel}: out is {out.dtype}, expected float32 or x's {x.dtype}")
    rows, cols = x.shape
    strides, logarithm = (x.strides[0], out.strides[0]), kernel == "log_softmax"
    if scratch is None or INTERPRETED or cols <= LANES or cols > LANES * MOST_CHUNKS:
        lanes = min(LANES, triton.next_power_of_2(cols))
        launch(
            _softmax_kernel, (rows,), x, out, cols, *strides,
            LOGARITHM=logarithm, LANES=lanes, num_warps=NUM_WARPS,
        )  # fmt: skip
        return out
    if scratch.dtype != "int64" or scratch.shape != SCRATCH or not scratch.is_contiguous:
        raise ValueError(
            f"{kernel}: scratch is {scratch.dtype} {list(scratch.shape)}, expected int64 {list(SCRATCH)}"
        )
    parts = PARTS[x.dtype]
    launch(
        _shared_kernel, (min(rows, PROGRAMS // parts) * parts,), x, out, scratch, rows, cols, *strides,
        LOGARITHM=logarithm, PARTS=parts, LATE=LATE[x.dtype], CHUNKS=cdiv(cols, LANES),
        LANES=LANES, WARPS=WARPS, WORDS=WORDS, num_warps=WARPS // parts,
    )  # fmt: skip
    return out


def log_softmax(x: DeviceArray, out: DeviceArray, scratch: DeviceArray | None = None) -> DeviceArray:
    """x - log(sum(exp(x))) of every row; gives `out`, which may be x.

    x and out [S, V], out float32 or of x's dtype, rows contiguous. A row that holds NaN or +inf, or only
    -inf, is NaN throughout or in part; -inf elsewhere stays -inf. scratch: int64 SCRATCH, zero, and left zero
    again: no two launches that may overlap share it. Without it, wide rows take twice the time for the same
    bits.
    """
    return _run("log_softmax", x, out, scratch)


def softmax(x: DeviceArray, out: DeviceArray, scratch: DeviceArray | None = None) -> DeviceArray:
    """exp(x) / sum(exp(x)) of every row; gives `out`. All else as `log_softmax`."""
    return _run("softmax", x, out, scratch)
