"""Softmax and log-softmax whose every row is computed the same way, whatever rows surround it.

Invariant: a row's sum of exp32(x - max) is taken by min(8192, next power of two >= V) lanes, each from left
to right, then neighbouring lanes are added pair by pair until one is left. Nothing but V chooses that order.

A wide row is shared by PARTS programs: each holds its lanes' elements in registers, so that the row is read
once, and the programs tell each other their maximum and their sum through `scratch`. A word of scratch
carries the number of its row beside its value, so that it needs no fence, which would empty the caches, and
no barrier. A program waits only for programs of its own row, which are started next to it.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import exp32, log32, narrow
from detrec.kernels.gpu.rows import expect_rows
from detrec.kernels.launch import INTERPRETED, cdiv, launch, tl, triton

KERNEL = "gpu.log_softmax lanes=8192 pairs exp32 log32 (x-max)-log(sum)"
"""Names the kernel and all of its configuration that could move a bit."""

LANES = 8192
"""Most lanes of a row: part of every result."""

# none of these can move a bit
NUM_WARPS = 8
PARTS = 8
PART_WARPS = 8
GROUPS = 33
MOST_CHUNKS = 20
WORDS = 64
SCRATCH = GROUPS, WORDS
"""Shape of the int64 scratch of a shared row."""


@triton.jit
def pair_sum(lanes, N: tl.constexpr):
    """The sum of lanes [N], N a power of two: neighbours are added until one is left.

    Never a bare tl.sum over many lanes: its order would be the layout's.
    """
    if N == 1:
        return tl.sum(lanes, axis=0)
    else:  # noqa: RET505  Triton compiles one branch, and nothing that stands after both
        return pair_sum(tl.sum(tl.reshape(lanes, [N // 2, 2]), axis=1), N // 2)


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
    total = pair_sum(lanes, LANES)

    for start in range(0, n_cols, LANES):
        mask = start + lane < n_cols
        below = tl.load(x_ptr + start + lane, mask=mask, other=0.0).to(tl.float32) - highest
        y = below - log32(total) if LOGARITHM else tl.div_rn(exp32(below), total.broadcast_to(LANES))
        tl.store(out_ptr + start + lane, narrow(y, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _tell(ptr, value, tag):
    word = (tag.to(tl.uint64) << 32) | value.to(tl.uint32, bitcast=True).to(tl.uint64)
    tl.store(ptr, word.to(tl.int64, bitcast=True), cache_modifier=".cg")


@triton.jit
def _hear(ptr, tag, N: tl.constexpr):
    """What N programs told, once all have."""
    ptrs = ptr + tl.arange(0, N)
    words = tl.load(ptrs, volatile=True)
    while tl.max(((words >> 32) != tag).to(tl.int32), axis=0) != 0:
        words = tl.load(ptrs, volatile=True)
    return words.to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def _shared_kernel(
    x_ptr, out_ptr, scratch_ptr, n_rows, n_cols, x_stride, out_stride,
    LOGARITHM: tl.constexpr, PARTS: tl.constexpr, CHUNKS: tl.constexpr, LANES: tl.constexpr,
    WORDS: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = LANES // PARTS
    LAST: tl.constexpr = CHUNKS - 1
    group, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    n_groups = tl.num_programs(0) // PARTS
    lane = part * N + tl.arange(0, N)
    last = LAST * LANES + lane
    scratch_ptr += group * WORDS
    maxima_ptr, sums_ptr, left_ptr = scratch_ptr, scratch_ptr + PARTS, scratch_ptr + 2 * PARTS
    for row in range(group, n_rows, n_groups):
        tag = row + 1
        xs = x_ptr + tl.cast(row, tl.int64) * x_stride + lane
        ys = out_ptr + tl.cast(row, tl.int64) * out_stride + lane
        kept = ()
        for chunk in tl.static_range(LAST):
            x = tl.load(xs + chunk * LANES, eviction_policy="evict_first").to(tl.float32)
            kept = kept + (x,)  # type: ignore[assignment]  # noqa: RUF005
        x = tl.load(xs + LAST * LANES, mask=last < n_cols, other=float("-inf")).to(tl.float32)
        kept = kept + (x,)  # type: ignore[assignment]  # noqa: RUF005

        top = tl.full((N,), float("-inf"), tl.float32)
        for chunk in tl.static_range(CHUNKS):
            top = tl.where(kept[chunk] > top, kept[chunk], top)
        _tell(maxima_ptr + part + tl.arange(0, 1), tl.max(tl.reshape(top, [1, N]), axis=1), tag)
        highest = tl.max(_hear(maxima_ptr, tag, PARTS), axis=0)

        lanes = tl.zeros((N,), tl.float32)
        held = ()
        for chunk in tl.static_range(CHUNKS):
            below = kept[chunk] - highest
            e = exp32(below)
            lanes += e if chunk < LAST else tl.where(last < n_cols, e, 0.0)
            held = held + (below if LOGARITHM else e,)  # type: ignore[assignment]  # noqa: RUF005
        own = tl.zeros((1,), tl.float32) + pair_sum(lanes, N)
        _tell(sums_ptr + part + tl.arange(0, 1), own, tag)
        total = pair_sum(_hear(sums_ptr, tag, PARTS), PARTS)

        for chunk in tl.static_range(CHUNKS):
            y = held[chunk] - log32(total) if LOGARITHM else tl.div_rn(held[chunk], total.broadcast_to(N))
            y = narrow(y, out_ptr.dtype.element_ty)
            mask = last < n_cols if chunk == LAST else None
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
    launch(
        _shared_kernel, (min(rows, GROUPS) * PARTS,), x, out, scratch, rows, cols, *strides,
        LOGARITHM=logarithm, PARTS=PARTS, CHUNKS=cdiv(cols, LANES), LANES=LANES, WORDS=WORDS,
        num_warps=PART_WARPS,
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
