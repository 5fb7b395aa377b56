"""One row's draw: its best token, its candidates, the cut of top-k and top-p, and the noise. See `sample`.

Nothing is sorted. A cut finds the key at which the wanted count or weight is reached by counting keys into
buckets of their high, middle and low bits; every sum is of integers.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import MAX_LANES, ZERO, exp32, float_to_bits, log32, select

WRONG_TEMPERATURE, WRONG_TOP_P, WRONG_MIN_P = 1, 2, 3

LOWEST, TINY, HALF, ONE = (np.float32(v) for v in (-np.inf, 2.0**-32, 0.5, 1.0))
TWO_32, INV_23 = np.float32(2.0**32), np.float32(2.0**-23)
INF = np.float32(np.inf)
GOLDEN, MIX_1, MIX_2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
U1, U27, U30, U31, U32, U41 = (np.uint64(v) for v in (1, 27, 30, 31, 32, 41))
LOW_32 = np.uint64(0xFFFFFFFF)
SIGN, REST = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)


@compiled
def mix(z: np.uint64) -> np.uint64:
    """SplitMix64's finaliser."""
    z = (z ^ (z >> U30)) * MIX_1
    z = (z ^ (z >> U27)) * MIX_2
    return z ^ (z >> U31)


@compiled
def gumbel(key: np.uint64, token: int) -> np.float32:
    """The noise of a token: -log(-log(u)), u from the generator's output number token + 1."""
    n = np.int32(mix(key + (np.uint64(token) + U1) * GOLDEN) >> U41)
    return -log32(-log32((np.float32(n) + HALF) * INV_23))


@compiled
def order_key(logprob: np.float32) -> np.uint32:
    """A number that rises as the logprob falls; -0.0 counts as 0.0."""
    bits = float_to_bits(logprob + ZERO)
    return select(bits >= SIGN, bits, np.uint32(REST - bits))


@compiled
def best_two(row: np.ndarray) -> tuple[int, np.float32, np.float32]:
    """The first index of the highest logprob (-1: none above -inf), it, and the second highest; no NaN."""
    best, second = np.full(MAX_LANES, LOWEST), np.full(MAX_LANES, LOWEST)
    for start in range(0, row.size, MAX_LANES):
        part = row[start : start + MAX_LANES]
        for lane in range(part.size):
            value, held = part[lane], best[lane]
            lower = select(value > held, held, value)
            second[lane] = select(lower > second[lane], lower, second[lane])
            best[lane] = select(value > held, value, held)
    highest, next_highest = LOWEST, LOWEST
    for lane in range(MAX_LANES):
        for value in (best[lane], second[lane]):
            if value > highest:
                highest, next_highest = value, highest
            elif value > next_highest:
                next_highest = value
    if highest == LOWEST:
        return -1, highest, next_highest
    for start in range(0, row.size, MAX_LANES):
        part = row[start : start + MAX_LANES]
        found = 0
        for lane in range(part.size):
            found += part[lane] == highest
        if found:
            for lane in range(part.size):
                if part[lane] == highest:
                    return start + lane, highest, next_highest
    return -1, highest, next_highest


@compiled
def candidates(
    row: np.ndarray,
    highest: np.float32,
    temperature: np.float32,
    least: np.uint64,
    tokens: np.ndarray,
    weights: np.ndarray,
) -> int:
    """How many tokens weigh at least `least`; they and their weights are written, ids ascending."""
    count = 0
    block = np.empty(MAX_LANES, np.uint64)
    for start in range(0, row.size, MAX_LANES):
        part = row[start : start + MAX_LANES]
        for lane in range(part.size):
            e = exp32((part[lane] - highest) / temperature)
            # not `e < TINY`: NaN has no weight either
            block[lane] = np.uint64(select(e >= TINY, e, ZERO) * TWO_32)
        for lane in range(part.size):
            tokens[count] = start + lane
            weights[count] = block[lane]
            count += block[lane] >= least
    return count


@compiled
def cut(
    row: np.ndarray, tokens: np.ndarray, weights: np.ndarray, count: int, target: np.uint64, weigh: bool
) -> int:
    """Keep the shortest prefix, in order, that reaches `target` tokens (weight, if `weigh`): how many."""
    prefix, reached = np.uint32(0), np.uint64(0)
    buckets = np.empty(2048, np.uint64)
    for level in range(3):
        shift = np.uint32(22 - 11 * level if level < 2 else 0)
        width = np.uint32(10 if level == 0 else 11)
        mask = np.uint32((1 << width) - 1)
        buckets[:] = np.uint64(0)
        for i in range(count):
            key = order_key(row[tokens[i]])
            inside = level == 0 or (np.uint64(key) >> np.uint64(shift + width)) == prefix
            if inside:
                buckets[np.uint32(key >> shift) & mask] += weights[i] if weigh else U1
        bucket = 0
        while reached + buckets[bucket] < target and bucket < mask:
            reached += buckets[bucket]
            bucket += 1
        prefix = np.uint32((prefix << width) | np.uint32(bucket))
    kept = 0
    for i in range(count):
        token, weight = tokens[i], weights[i]
        key = order_key(row[token])
        if key < prefix or (key == prefix and reached < target):
            if key == prefix:
                reached += weight if weigh else U1
            tokens[kept], weights[kept] = token, weight
            kept += 1
    return kept


@compiled
def reaching(total: np.uint64, top_p: np.float32) -> np.uint64:
    """ceil(total * p), p = floor(top_p * 2^32) / 2^32, exactly; at least 1."""
    p = np.uint64(top_p * TWO_32)
    need = (total >> U32) * p + (((total & LOW_32) * p + LOW_32) >> U32)
    return max(need, U1)


@compiled
def noisiest(
    row: np.ndarray,
    highest: np.float32,
    temperature: np.float32,
    key: np.uint64,
    tokens: np.ndarray,
    count: int,
) -> int:
    """The token of the highest x + noise among tokens[:count], ids ascending; ties to the first."""
    token, top = -1, LOWEST
    scores, above = np.empty(MAX_LANES, np.float32), np.empty(MAX_LANES, np.float32)
    for start in range(0, count, MAX_LANES):
        part = tokens[start : min(start + MAX_LANES, count)]
        for i in range(part.size):
            above[i] = row[part[i]]
        better = 0
        for i in range(part.size):
            scores[i] = (above[i] - highest) / temperature + gumbel(key, part[i])
            better += scores[i] > top
        if better:
            for i in range(part.size):
                if scores[i] > top:
                    token, top = part[i], scores[i]
    return token


@compiled
def draw_row(
    row: np.ndarray,
    temperature: np.float32,
    top_k: np.int32,
    top_p: np.float32,
    min_p: np.float32,
    seed: np.uint64,
    counter: np.uint64,
    whole: np.ndarray,
    real: np.ndarray,
) -> int:
    """Write token, seed and counter to whole[:3], logprob and margin to real[6:8]; 0, or what is WRONG."""
    token, highest, second = best_two(row)
    if not (temperature >= ZERO and temperature < INF):
        return WRONG_TEMPERATURE
    if not (top_p >= ZERO and top_p <= ONE):
        return WRONG_TOP_P
    if not (min_p >= ZERO and min_p <= ONE):
        return WRONG_MIN_P
    whole[1], whole[2] = 0, 0
    if token < 0:
        whole[0] = 0
        real[6], real[7] = row[0], ZERO
        return 0
    if temperature > ZERO and highest < INF:
        tokens, weights = np.empty(row.size + 1, np.int32), np.empty(row.size + 1, np.uint64)
        least = max(np.uint64(np.ceil(min_p * TWO_32)), U1)
        count = candidates(row, highest, temperature, least, tokens, weights)
        if top_k > 0 and top_k < count:
            count = cut(row, tokens, weights, count, np.uint64(top_k), False)
        if top_p < ONE:
            total = np.uint64(0)
            for i in range(count):
                total += weights[i]
            count = cut(row, tokens, weights, count, reaching(total, top_p), True)
        key = mix(mix(seed + GOLDEN) + counter * GOLDEN + GOLDEN)
        token = noisiest(row, highest, temperature, key, tokens, count)
        whole[1], whole[2] = np.int64(seed), np.int64(counter)
    whole[0] = token
    real[6], real[7] = row[token], highest - second
    return 0
