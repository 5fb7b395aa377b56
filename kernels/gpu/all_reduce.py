"""Sum over ranks: every element is added up in the same order, wherever it lies, however many there are.

Invariant: an element is the sum of its n values in float32, added in rank order 0..n-1, or in the tree
((0+1)+(2+3))+((4+5)+(6+7)) over ranks, then rounded once. Who adds it, when its values come, and how many
elements come with it cannot be seen in it.

Every rank writes into the others' staging memory, by `peer_words`. One stage: each sends all it has to all,
and each adds up everything. Two stages, for more: each adds up a share of its own and sends the sums on.

Staging is used three times over. While turn g is written, what turn g-1 brought is made EMPTY again, for turn
g+2: nobody can be there before this rank has sent turn g+1, which it does when the kernel of turn g has
ended. A turn is one of a block of the grid: a block has its own piece of staging, and its turn is kept in
control words on the GPU, so that a captured graph may be run for ever.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import staging as laid
from detrec.kernels.gpu.peer_words import EMPTY, load_units, sendable, settle, store_units
from detrec.kernels.gpu.rank_words import UNIT, element_of, give, heard, sum_over_ranks, take, words_of
from detrec.kernels.gpu.staging import FAILED, LIMIT, RANK, TOLD, Links
from detrec.kernels.launch import cdiv, launch, tl, triton

_FAILED, _LIMIT, _TOLD, _RANK = (tl.constexpr(word) for word in (FAILED, LIMIT, TOLD, RANK))


def kernel(order: str, world_size: int) -> str:
    """Names the kernel and all of its configuration that could move a bit."""
    return f"gpu.all_reduce {order} of {world_size}"


@triton.jit
def _begin(control_ptr, turns_ptr, cap, BLOCKS: tl.constexpr):
    """This block's rank, where its piece of a source's staging begins now and before, and units there."""
    block = tl.program_id(0)
    third = tl.load(turns_ptr + 2 * block)
    filled = tl.load(turns_ptr + 2 * block + 1).to(tl.int32)
    now = (third * BLOCKS + block) * cap
    before = ((third + 2) % 3 * BLOCKS + block) * cap
    return tl.load(control_ptr + _RANK).to(tl.int32), now, before, filled


@triton.jit
def _end(turns_ptr, share):
    """The next turn is another third of staging."""
    turn_ptr = turns_ptr + 2 * tl.program_id(0)
    third = tl.load(turn_ptr)
    # all threads have read what one thread writes
    tl.debug_barrier()
    tl.store(turn_ptr, (third + 1) % 3)
    tl.store(turn_ptr + 1, share)


@triton.jit
def _empty(staging, stride, filled, N: tl.constexpr, UNITS: tl.constexpr):
    """Make the first `filled` units EMPTY of each of N sources."""
    word = tl.full([UNITS], EMPTY, tl.uint32)
    for start in range(0, filled, UNITS):
        units = start + tl.arange(0, UNITS)
        for source in tl.static_range(N):
            at = staging + source * stride + units.to(tl.int64) * 16
            store_units(at, (word, word, word, word), units < filled)


@triton.jit
def _one_stage_kernel(
    x_ptr, out_ptr, n_elements, n_units, skip, share, cols, out_cols, control_ptr, turns_ptr, staging, cap,
    peer1, peer2, peer3, peer4, peer5, peer6, peer7,
    N: tl.constexpr, ORDER: tl.constexpr, WHOLE: tl.constexpr, BLOCKS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Units `skip` to `n_units`, of which a block takes `share`: summed, or in ORDER "gather" written side by
    side, `cols` elements of a row from each rank.
    """
    if tl.load(control_ptr + _FAILED) != 0:
        return
    rank, now, before, filled = _begin(control_ptr, turns_ptr, cap, BLOCKS)
    limit, told = tl.load(control_ptr + _LIMIT), tl.load(control_ptr + _TOLD)
    failed, stride = control_ptr.to(tl.int64), 3 * BLOCKS * cap.to(tl.int64)
    peers = (peer1, peer2, peer3, peer4, peer5, peer6, peer7)
    first = skip + tl.program_id(0) * share
    count = tl.minimum(share, n_units - first)

    for start in range(0, share, UNITS):
        units = start + tl.arange(0, UNITS)
        sent = sendable(take(x_ptr, first + units, units < count, n_elements, 4, WHOLE))
        for peer in tl.static_range(N - 1):
            store_units(peers[peer] + now + units.to(tl.int64) * 16, sent, units < count)
    _empty(staging + before, stride, filled, N, UNITS)
    for start in range(0, share, UNITS):
        units = start + tl.arange(0, UNITS)
        live = units < count
        own = take(x_ptr, first + units, live, n_elements, 4, WHOLE)
        at = staging + now + units.to(tl.int64) * 16
        values = heard(own, rank, at, stride, live, limit, failed, told, N)
        if ORDER == "gather":
            _beside(out_ptr, first + units, values, live, n_elements, cols, out_cols, WHOLE)
        else:
            total = sum_over_ranks(values, x_ptr.dtype.element_ty, ORDER == "ranks")
            give(out_ptr, first + units, words_of(total, out_ptr.dtype.element_ty), live, n_elements, WHOLE)
    _end(turns_ptr, share)


@triton.jit
def _beside(out_ptr, units, values, live, n_elements, cols, out_cols, WHOLE: tl.constexpr):
    """Write each rank's units to its columns, as far as out has them; WHOLE where no unit is of two rows."""
    KIND: tl.constexpr = out_ptr.dtype.element_ty
    SIZE: tl.constexpr = 128 // KIND.primitive_bitwidth
    for source in tl.static_range(len(values)):
        for place in tl.static_range(1 if WHOLE else SIZE):
            element = units.to(tl.int64) * SIZE + place
            column = source * cols + element % cols
            to = element // cols * out_cols + column
            there = live & (column < out_cols)
            if WHOLE:
                store_units(out_ptr.to(tl.int64) + to * (16 // SIZE), values[source], there)
            else:
                value = element_of(values[source], place, KIND)
                tl.store(out_ptr + to, value, mask=there & (element < n_elements))


@triton.jit
def _sums_of_others(
    out_ptr, n_elements, n_units, rank, begin, most, shard, at_sums, stride, limit, failed, told,
    N: tl.constexpr, OUT: tl.constexpr, WHOLE: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Write what the other ranks added up, as it comes."""
    for peer in tl.static_range(N - 1):
        source = (rank + N - 1 - peer) % N
        first = source * shard + begin
        count = tl.minimum(most, n_units - first)
        for start in range(0, count, UNITS):
            units = start + tl.arange(0, UNITS)
            live = units < count
            at = at_sums + source * stride + units.to(tl.int64) * (4 * OUT)
            total = settle(load_units(at, live, OUT), at, live, source + 1, limit, failed, told)
            give(out_ptr, first + units, total, live, n_elements, WHOLE)


@triton.jit
def _two_stage_kernel(
    x_ptr, out_ptr, n_elements, n_units, skip, shard, share, control_ptr, turns_ptr, staging, cap,
    peer1, peer2, peer3, peer4, peer5, peer6, peer7,
    N: tl.constexpr, ORDER: tl.constexpr, WHOLE: tl.constexpr, BLOCKS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Rank r adds up `shard` units of `skip` to `n_units`, of which a block takes `share`."""
    if tl.load(control_ptr + _FAILED) != 0:
        return
    rank, now, before, filled = _begin(control_ptr, turns_ptr, cap, BLOCKS)
    limit, told = tl.load(control_ptr + _LIMIT), tl.load(control_ptr + _TOLD)
    failed, stride = control_ptr.to(tl.int64), 3 * BLOCKS * cap.to(tl.int64)
    peers = (peer1, peer2, peer3, peer4, peer5, peer6, peer7)
    begin = tl.program_id(0) * share
    most = tl.minimum(share, shard - begin)
    begin += skip
    kind: tl.constexpr = x_ptr.dtype.element_ty
    to: tl.constexpr = out_ptr.dtype.element_ty
    OUT: tl.constexpr = 4 * to.primitive_bitwidth // kind.primitive_bitwidth

    for peer in tl.static_range(N - 1):
        first = (rank + 1 + peer) % N * shard + begin
        count = tl.minimum(most, n_units - first)
        for start in range(0, count, UNITS):
            units = start + tl.arange(0, UNITS)
            sent = sendable(take(x_ptr, first + units, units < count, n_elements, 4, WHOLE))
            store_units(peers[peer] + now + units.to(tl.int64) * 16, sent, units < count)
    _empty(staging + before, stride, filled, 2 * N, UNITS)

    sums = N * stride + now
    first = rank * shard + begin
    count = tl.minimum(most, n_units - first)
    for start in range(0, count, UNITS):
        units = start + tl.arange(0, UNITS)
        live = units < count
        own = take(x_ptr, first + units, live, n_elements, 4, WHOLE)
        at = staging + now + units.to(tl.int64) * 16
        values = heard(own, rank, at, stride, live, limit, failed, told, N)
        total = words_of(sum_over_ranks(values, kind, ORDER == "ranks"), to)
        sent = sendable(total)
        for peer in tl.static_range(N - 1):
            store_units(peers[peer] + sums + units.to(tl.int64) * (4 * OUT), sent, live)
        give(out_ptr, first + units, total, live, n_elements, WHOLE)

    _sums_of_others(
        out_ptr, n_elements, n_units, rank, begin, most, shard, staging + sums, stride, limit, failed, told,
        N, OUT, WHOLE, UNITS,
    )  # fmt: skip
    _end(turns_ptr, share)


def _is_whole(x: DeviceArray, out: DeviceArray) -> bool:
    """Whether units of both lie at multiples of their size, the last one too."""
    wide = UNIT // x.dtype.itemsize * out.dtype.itemsize
    return x.address % UNIT == 0 and x.nbytes % UNIT == 0 and out.address % wide == 0


def all_reduce(x: DeviceArray, out: DeviceArray, links: Links, order: str) -> DeviceArray:
    """The sum of every rank's x; gives `out`.

    x float32, bfloat16 or float16 of any shape, contiguous; out of x's dtype, or any of them where x is
    float32, of as many elements, not overlapping x. `order` "ranks" or "tree". All ranks call with equal
    shapes.
    """
    units = cdiv(x.nbytes, UNIT)
    whole = _is_whole(x, out)
    one, two = links.one, links.two
    if two is None or units <= one.units:
        _launch_one_stage(x, out, links, order, whole)
        return out
    most = two.units * links.world_size
    for skip in range(0, units, most):
        stop = min(units, skip + most)
        shard = cdiv(cdiv(stop - skip, links.world_size), 8) * 8
        blocks, share = laid.cut(shard)
        launch(
            _two_stage_kernel, (blocks,), x, out, x.count, stop, skip, shard, share,
            links.control, two.turns, *two.arguments(),
            N=links.world_size, ORDER=order, WHOLE=whole, BLOCKS=laid.BLOCKS, UNITS=laid.UNITS,
            num_warps=laid.NUM_WARPS,
        )  # fmt: skip
    return out


def all_gather(x: DeviceArray, out: DeviceArray, links: Links) -> DeviceArray:
    """Every rank's columns side by side, in rank order; gives `out`.

    x [R, C] and out [R, up to ranks x C] of one dtype, contiguous; what is past out's last column is left
    out. All ranks call with equal shapes. Bits stay as they are, but for NaNs.
    """
    rows = [array.shape[1] * array.dtype.itemsize for array in (x, out)]
    whole = _is_whole(x, out) and not any(row % UNIT for row in rows)
    _launch_one_stage(x, out, links, "gather", whole)
    return out


def _launch_one_stage(x: DeviceArray, out: DeviceArray, links: Links, order: str, whole: bool) -> None:
    units, staging = cdiv(x.nbytes, UNIT), links.one
    for skip in range(0, units, staging.units):
        stop = min(units, skip + staging.units)
        blocks, share = laid.cut(stop - skip)
        launch(
            _one_stage_kernel, (blocks,), x, out, x.count, stop, skip, share, x.shape[-1], out.shape[-1],
            links.control, staging.turns, *staging.arguments(),
            N=links.world_size, ORDER=order, WHOLE=whole, BLOCKS=laid.BLOCKS, UNITS=laid.UNITS,
            num_warps=laid.NUM_WARPS,
        )  # fmt: skip
