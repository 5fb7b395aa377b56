"""Where top-k and top-p cut a row: the last pair (see `draw`) that is kept.

Nothing is sorted. Sums of weights are integers, so that the order of adding cannot move the cut; how the
search proceeds cannot either, it only takes time: an interval of the order is narrowed until a single token
is left in it, and a token has but one place in the order.
"""

from typing import NamedTuple

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.draw import (
    LAST,
    NOTHING,
    can_be_drawn,
    least_mass,
    logprob_of,
    order_key,
    pair_of,
    reaching,
    weight_of,
)
from detrec.kernels.gpu.interval import (
    TOKEN,
    WEIGHT_BITS,
    WEIGHTS,
    estimate_kernel,
    interval_kernel,
    is_cut,
    list_kernel,
)
from detrec.kernels.launch import cdiv, launch, tl, triton

CHUNK = 4096
"""Tokens of a row that one program reads."""

SAMPLE = 512
PIVOTS = 16
LISTED = 16384
"""How many tokens of an interval can be listed; where there are more, which is rare, the row is searched."""

ESTIMATE_BLOCK = 256
ESTIMATE_WARPS = 4
LIST_BLOCK = 512
LIST_WARPS = 4
SEARCH_BLOCK = 4096
SEARCH_WARPS = 16


@triton.jit
def _upto(
    pivot, is_listed, n, logprobs_ptr, pairs_ptr, weights_ptr, highest, temperature, least,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Of the n listed tokens (else, of the row) up to the pivot: how many, and their weight.

    And lanes: the last of them, and the first after the pivot.
    """
    lanes = tl.zeros((BLOCK,), tl.uint64)
    nearest, next_one = tl.zeros((BLOCK,), tl.uint64), tl.full((BLOCK,), LAST, tl.uint64)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        mask = at < n
        if is_listed:
            pair = tl.load(pairs_ptr + at, mask=mask, other=LAST)
            weight = tl.where(mask, tl.load(weights_ptr + at, mask=mask, other=0).to(tl.uint64) + 1, 0)
        else:
            x = tl.load(logprobs_ptr + at, mask=mask, other=float("-inf"))
            pair = pair_of(order_key(x), at)
            weight = weight_of(tl.div_rn(x - highest, temperature), least)
        upto = (weight > 0) & (pair <= pivot)
        lanes += tl.where(upto, weight + TOKEN, 0)
        nearest = tl.maximum(nearest, tl.where(upto, pair, 0))
        next_one = tl.minimum(next_one, tl.where((weight > 0) & (pair > pivot), pair, LAST))
    if is_listed:
        # what can be listed adds up to less than 2^48
        packed = tl.sum(lanes, axis=0)
        count, weight = packed >> WEIGHT_BITS, packed & WEIGHTS
    else:
        count, weight = tl.sum(lanes >> WEIGHT_BITS, axis=0), tl.sum(lanes & WEIGHTS, axis=0)
    return count, weight, nearest, next_one


@triton.jit
def _search(
    low, low_count, low_weight, high, high_count, high_weight, target, by_count,
    is_listed, n, logprobs_ptr, pairs_ptr, weights_ptr, highest, temperature, least, BLOCK: tl.constexpr,
):  # fmt: skip
    """The pair of (low, high] up to which the target is first reached; the tokens and weight up to it."""
    # a list begins behind `low`, a row behind nothing
    base_count, base_weight = tl.where(is_listed, low_count, 0), tl.where(is_listed, low_weight, 0)
    turn = tl.full((), 0, tl.int32)
    while high_count - low_count > 1:
        # where it should lie if tokens lay evenly, a little to either side in turn, then the middle: so
        # that the interval shrinks to its root in two turns, and never less than to its half in three
        there = tl.where(by_count, target - low_count, target - low_weight).to(tl.float32)
        length = tl.where(by_count, high_count - low_count, high_weight - low_weight).to(tl.float32)
        aside = tl.where(turn == 0, 1.0, -1.0) / tl.sqrt((high_count - low_count).to(tl.float32))
        part = tl.where(turn == 2, 0.5, tl.minimum(tl.maximum(there / length + aside, 0.0), 1.0))
        turn = tl.where(turn == 2, 0, turn + 1)
        probe = low + ((high - low).to(tl.float32) * part).to(tl.uint64)
        probe = tl.maximum(tl.minimum(probe, high - 1), low + 1)
        count, weight, nearest, next_one = _upto(
            probe, is_listed, n, logprobs_ptr, pairs_ptr, weights_ptr, highest, temperature, least, BLOCK
        )
        count += base_count
        weight += base_weight
        if tl.where(by_count, count, weight) >= target:
            high, high_count, high_weight = tl.max(nearest, axis=0), count, weight
        else:
            low, low_count, low_weight = tl.min(next_one, axis=0) - 1, count, weight
    return high, high_count, high_weight


@triton.jit
def _bracket(
    before, target, by_count, high_count, high_weight, low, interval_ptr, n, logprobs_ptr, pairs_ptr,
    weights_ptr, highest, temperature, least, LISTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Whether the target is reached in the list; and what it lies between there, else behind `low`.

    That is a pair below, the tokens and weight up to it, and the same of a pair that is not.
    """
    high = tl.full((), NOTHING, tl.uint64)
    zero = tl.full((), 0, tl.uint64)
    low_count, low_weight = zero, zero
    is_listed = n <= LISTED
    if is_listed:
        after, upto = tl.load(interval_ptr), tl.load(interval_ptr + 1)
        count, weight, _nearest, _next = _upto(
            upto, is_listed, n, logprobs_ptr, pairs_ptr, weights_ptr, highest, temperature, least, BLOCK
        )
        count_before = tl.sum(before >> WEIGHT_BITS, axis=0)
        weight_before = tl.sum(before & WEIGHTS, axis=0)
        count += count_before
        weight += weight_before
        is_listed = (tl.where(by_count, count_before, weight_before) < target) & (
            tl.where(by_count, count, weight) >= target
        )
        if is_listed:
            low, low_count, low_weight = after, count_before, weight_before
            high, high_count, high_weight = upto, count, weight
    return is_listed, low, low_count, low_weight, high, high_count, high_weight


@triton.jit
def _search_kernel(
    logprobs_ptr, interval_ptr, sums_ptr, pairs_ptr, weights_ptr, listed_ptr, last_ptr,
    temperature_ptr, top_k_ptr, top_p_ptr, min_p_ptr, n_cols, stride, n_chunks,
    CHUNKS: tl.constexpr, LISTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    temperature, top_k = tl.load(temperature_ptr + row), tl.load(top_k_ptr + row)
    top_p = tl.load(top_p_ptr + row)
    if is_cut(temperature, top_k, top_p):
        best = tl.load(interval_ptr + row * 3 + 2)
        if can_be_drawn(best, temperature):
            chunk = tl.arange(0, CHUNKS)
            at = sums_ptr + (row * n_chunks + chunk) * 2
            before = tl.load(at, mask=chunk < n_chunks, other=0)
            whole = tl.load(at + 1, mask=chunk < n_chunks, other=0)
            high_count, high_weight = tl.sum(whole >> WEIGHT_BITS, axis=0), tl.sum(whole & WEIGHTS, axis=0)
            by_count = (top_k > 0) & (top_k.to(tl.uint64) < high_count)
            last = tl.full((), NOTHING, tl.uint64)
            if by_count | (top_p < 1.0):
                logprobs_ptr += row * stride
                pairs_ptr += row * LISTED
                weights_ptr += row * LISTED
                highest, least = logprob_of(best), least_mass(tl.load(min_p_ptr + row))
                target = tl.where(by_count, top_k.to(tl.uint64), reaching(high_weight, top_p))
                low = best - 1
                n = tl.load(listed_ptr + row)
                is_listed, low, low_count, low_weight, high, high_count, high_weight = _bracket(
                    before, target, by_count, high_count, high_weight, low, interval_ptr + row * 3, n,
                    logprobs_ptr, pairs_ptr, weights_ptr, highest, temperature, least, LISTED, BLOCK,
                )  # fmt: skip
                n = tl.where(is_listed, n, n_cols)
                last, kept, weight = _search(
                    low, low_count, low_weight, high, high_count, high_weight, target, by_count,
                    is_listed, n, logprobs_ptr, pairs_ptr, weights_ptr, highest, temperature, least, BLOCK,
                )  # fmt: skip
                if by_count & (top_p < 1.0):
                    zero = tl.full((), 0, tl.uint64)
                    last, _kept, _weight = _search(
                        best - 1, zero, zero, last, kept, weight, reaching(weight, top_p), top_k < 0,
                        is_listed, n, logprobs_ptr, pairs_ptr, weights_ptr, highest, temperature, least,
                        BLOCK,
                    )  # fmt: skip
            tl.store(last_ptr + row, last)


class Scratch(NamedTuple):
    """What the kernels of a draw leave each other; of S rows, cut into chunks of CHUNK tokens.

    best uint64 [S, chunks, 2]: of each chunk, its first pair and its second key. pivots uint64 [S, PIVOTS],
    masses float32 [S, chunks, PIVOTS], interval uint64 [S, 3], sums uint64 [S, chunks, 2], pairs uint64 and
    weights uint32 [S, LISTED], listed int32 [S], last uint64 [S], noisiest uint64 [S, chunks].
    """

    best: DeviceArray
    pivots: DeviceArray
    masses: DeviceArray
    interval: DeviceArray
    sums: DeviceArray
    pairs: DeviceArray
    weights: DeviceArray
    listed: DeviceArray
    last: DeviceArray
    noisiest: DeviceArray


def cut(
    logprobs: DeviceArray, of: Scratch, temperature: DeviceArray, top_k: DeviceArray, top_p: DeviceArray,
    min_p: DeviceArray,
) -> None:  # fmt: skip
    """Write to `last` the last pair that each row keeps, of the rows where `is_cut`.

    Given are logprobs float32 [S, V], the parameters of `sample`, `best`, `pivots` and zeros in `listed`.
    """
    rows, cols = logprobs.shape
    chunks = cdiv(cols, CHUNK)
    lanes = triton.next_power_of_2(chunks)
    asked, shape = (temperature, top_k, top_p, min_p), (cols, logprobs.strides[0], chunks)
    launch(
        estimate_kernel, (rows, chunks), logprobs, of.best, of.pivots, of.masses, *asked, *shape,
        CHUNK=CHUNK, CHUNKS=lanes, PIVOTS=PIVOTS, BLOCK=ESTIMATE_BLOCK, num_warps=ESTIMATE_WARPS,
    )  # fmt: skip
    launch(
        interval_kernel, (rows,), of.best, of.pivots, of.masses, of.interval, temperature, top_k, top_p,
        chunks, CHUNKS=lanes, PIVOTS=PIVOTS, num_warps=1,
    )  # fmt: skip
    launch(
        list_kernel, (rows, chunks), logprobs, of.interval, of.sums, of.pairs, of.weights, of.listed,
        *asked, *shape, CHUNK=CHUNK, LISTED=LISTED, BLOCK=LIST_BLOCK, num_warps=LIST_WARPS,
    )  # fmt: skip
    launch(
        _search_kernel, (rows,), logprobs, of.interval, of.sums, of.pairs, of.weights, of.listed, of.last,
        *asked, *shape, CHUNKS=lanes, LISTED=LISTED, BLOCK=SEARCH_BLOCK, num_warps=SEARCH_WARPS,
    )  # fmt: skip
