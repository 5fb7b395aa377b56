"""Which few tokens of a row a cut can fall among, so that its search need not read the row.

Pivots, the quantiles of a sample, split a row's pairs (see `draw`) into intervals; the one that the cut
seems to fall into is listed, in any order. What seems so is estimated, and decides how long the search
takes, never what it finds: `cut` checks it against the exact sums that are taken along the way.
"""

from detrec.kernels.gpu.draw import (
    NOTHING,
    best_of,
    can_be_drawn,
    least_mass,
    logprob_of,
    order_key,
    pair_of,
    weight_of,
)
from detrec.kernels.launch import tl, triton

WEIGHT_BITS = tl.constexpr(48)
WEIGHTS = tl.constexpr((1 << 48) - 1)
TOKEN = tl.constexpr(1 << 48)
"""A lane's sum holds weight in its low 48 bits and the number of tokens above."""

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def is_cut(temperature, top_k, top_p):
    """Whether a row asks for a cut."""
    return (temperature > 0.0) & ((top_k > 0) | (top_p < 1.0))


@triton.jit
def _sampled(lane, n_cols, SAMPLE: tl.constexpr):
    return ((lane.to(tl.int64) * n_cols) // SAMPLE).to(tl.int32)


@triton.jit
def choose_pivots(
    logprobs_ptr, pivots_ptr, part, n_cols, SAMPLE: tl.constexpr, PARTS: tl.constexpr, PIVOTS: tl.constexpr
):
    """Rank one of PARTS parts of the sample within the sample; write those that are quantiles."""
    OWN: tl.constexpr = SAMPLE // PARTS
    STEP: tl.constexpr = SAMPLE // 4
    EACH: tl.constexpr = SAMPLE // PIVOTS
    lane = part * OWN + tl.arange(0, OWN)
    token = _sampled(lane, n_cols, SAMPLE)
    key = order_key(tl.load(logprobs_ptr + token))
    rank = tl.zeros((OWN,), tl.int32)
    for start in range(0, SAMPLE, STEP):
        other_lane = start + tl.arange(0, STEP)
        other = order_key(tl.load(logprobs_ptr + _sampled(other_lane, n_cols, SAMPLE)))
        earlier = other_lane[None, :] < lane[:, None]
        before = (other[None, :] < key[:, None]) | ((other[None, :] == key[:, None]) & earlier)
        rank += tl.sum(before.to(tl.int32), axis=1)
    pivot = tl.where(rank == SAMPLE - 1, NOTHING, pair_of(key, token))
    tl.store(pivots_ptr + rank // EACH, pivot, mask=rank % EACH == EACH - 1)


@triton.jit
def estimate_kernel(
    logprobs_ptr, best_ptr, pivots_ptr, masses_ptr, temperature_ptr, top_k_ptr, top_p_ptr, min_p_ptr,
    n_cols, stride, n_chunks,
    CHUNK: tl.constexpr, CHUNKS: tl.constexpr, PIVOTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """About what a chunk's candidates up to each pivot weigh; where there is a top_k, their number."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    temperature, top_k = tl.load(temperature_ptr + row), tl.load(top_k_ptr + row)
    if is_cut(temperature, top_k, tl.load(top_p_ptr + row)):
        best = best_of(best_ptr, row, n_chunks, CHUNKS)
        if can_be_drawn(best, temperature):
            highest, least = logprob_of(best), least_mass(tl.load(min_p_ptr + row))
            scale = LOG2E / temperature
            place = tl.arange(0, PIVOTS)
            pivots = tl.load(pivots_ptr + row * PIVOTS + place)[None, :]
            upto = tl.zeros((BLOCK, PIVOTS), tl.float32)
            for start in range(0, CHUNK, BLOCK):
                token = chunk * CHUNK + start + tl.arange(0, BLOCK)
                x = tl.load(logprobs_ptr + row * stride + token, mask=token < n_cols, other=float("-inf"))
                mass = tl.exp2((x - highest) * scale)
                # not `mass < least`: NaN has none
                mass = tl.where(mass >= least, tl.where(top_k > 0, 1.0, mass), 0.0)
                pair = pair_of(order_key(x), token)
                upto += tl.where(pair[:, None] <= pivots, mass[:, None], 0.0)
            tl.store(masses_ptr + (row * n_chunks + chunk) * PIVOTS + place, tl.sum(upto, axis=0))


@triton.jit
def interval_kernel(
    best_ptr, pivots_ptr, masses_ptr, interval_ptr, temperature_ptr, top_k_ptr, top_p_ptr, n_chunks,
    CHUNKS: tl.constexpr, PIVOTS: tl.constexpr,
):  # fmt: skip
    """The pairs (low, high] among which the first cut seems to fall, and the best.

    All up to high where another cut is to follow, and all where top_k seems to keep all.
    """
    row = tl.program_id(0).to(tl.int64)
    temperature, top_k = tl.load(temperature_ptr + row), tl.load(top_k_ptr + row)
    top_p = tl.load(top_p_ptr + row)
    if is_cut(temperature, top_k, top_p):
        best = best_of(best_ptr, row, n_chunks, CHUNKS)
        tl.store(interval_ptr + row * 3 + 2, best)
        if can_be_drawn(best, temperature):
            chunk, place = tl.arange(0, CHUNKS)[:, None], tl.arange(0, PIVOTS)
            at = masses_ptr + (row * n_chunks + chunk) * PIVOTS + place[None, :]
            masses = tl.sum(tl.load(at, mask=chunk < n_chunks, other=0.0), axis=0)
            pivots = tl.load(pivots_ptr + row * PIVOTS + place)
            total = tl.max(masses, axis=0)
            target = tl.where(top_k > 0, top_k.to(tl.float32), total * top_p)
            inside = tl.minimum(tl.sum((masses < target).to(tl.int32), axis=0), PIVOTS - 1)
            from_best = (top_k > 0) & ((top_p < 1.0) | (total < target))
            before = tl.where(from_best, -1, inside - 1)
            low = tl.maximum(tl.max(tl.where(place == before, pivots, 0), axis=0), best - 1)
            high = tl.max(tl.where(place == inside, pivots, 0), axis=0)
            tl.store(interval_ptr + row * 3, low)
            tl.store(interval_ptr + row * 3 + 1, high)


@triton.jit
def list_kernel(
    logprobs_ptr, interval_ptr, sums_ptr, pairs_ptr, weights_ptr, listed_ptr,
    temperature_ptr, top_k_ptr, top_p_ptr, min_p_ptr, n_cols, stride, n_chunks,
    CHUNK: tl.constexpr, LISTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """List a chunk's tokens in the interval; sum, exactly, those before it and all."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    temperature = tl.load(temperature_ptr + row)
    if is_cut(temperature, tl.load(top_k_ptr + row), tl.load(top_p_ptr + row)):
        low, high = tl.load(interval_ptr + row * 3), tl.load(interval_ptr + row * 3 + 1)
        best = tl.load(interval_ptr + row * 3 + 2)
        if can_be_drawn(best, temperature):
            highest, least = logprob_of(best), least_mass(tl.load(min_p_ptr + row))
            before, whole = tl.zeros((BLOCK,), tl.uint64), tl.zeros((BLOCK,), tl.uint64)
            for start in range(0, CHUNK, BLOCK):
                token = chunk * CHUNK + start + tl.arange(0, BLOCK)
                x = tl.load(logprobs_ptr + row * stride + token, mask=token < n_cols, other=float("-inf"))
                weight = weight_of(tl.div_rn(x - highest, temperature), least)
                pair = pair_of(order_key(x), token)
                counted = tl.where(weight > 0, weight + TOKEN, 0)
                whole += counted
                before += tl.where(pair <= low, counted, 0)
                inside = (weight > 0) & (pair > low) & (pair <= high)
                place = tl.cumsum(inside.to(tl.int32), axis=0)
                found = tl.max(place, axis=0)
                if found > 0:
                    # whoever comes first: the list is in no order
                    first = tl.atomic_add(listed_ptr + row, found, sem="relaxed")
                    at = first + place - 1
                    mask = inside & (at < LISTED)
                    tl.store(pairs_ptr + row * LISTED + at, pair, mask=mask)
                    # 1 to 2^32 does not fit into 32 bits
                    tl.store(weights_ptr + row * LISTED + at, (weight - 1).to(tl.uint32), mask=mask)
            sums_ptr += (row * n_chunks + chunk) * 2
            tl.store(sums_ptr, tl.sum(before, axis=0))
            tl.store(sums_ptr + 1, tl.sum(whole, axis=0))
