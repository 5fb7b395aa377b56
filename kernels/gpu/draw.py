"""What `kernels/cpu/draw.py` says of one token, in Triton: its order, weight and noise, in the same bits.

All is elementwise, or of integers, so that no order of lanes, chunks or programs can move a bit. A token's
*pair* is its order key above its id: pairs are distinct, and sorted they are the order in which cuts keep.
"""

from detrec.kernels.gpu.portable import GOLDEN, exp32, log32, mix64
from detrec.kernels.launch import tl, triton

MAX_VOCABULARY = 1 << 20

ID_BITS = tl.constexpr(20)
IDS = tl.constexpr((1 << 20) - 1)
TINY = tl.constexpr(2.0**-32)
TWO_32 = tl.constexpr(2.0**32)
INV_23 = tl.constexpr(2.0**-23)
LAST = tl.constexpr(0xFFFFFFFFFFFFFFFF)
"""Behind every pair."""
NOTHING = tl.constexpr(0xFF800000 << 20)
"""The pair of -inf and token 0: all pairs of numbers are before it."""
INFINITY = tl.constexpr(0x00800000 << 20)
"""Behind every pair of inf, and before those of numbers."""


@triton.jit
def noise_key(seed, counter):
    """The generator's state for one draw."""
    return mix64(mix64(seed + GOLDEN) + counter * GOLDEN + GOLDEN)


@triton.jit
def gumbel(key, token):
    """The noise of a token: -log(-log(u)), u from the generator's output number token + 1."""
    n = mix64(key + (token + 1).to(tl.uint64) * GOLDEN) >> 41
    return -log32(-log32((n.to(tl.int32).to(tl.float32) + 0.5) * INV_23))


@triton.jit
def order_key(logprob):
    """A number that rises as the logprob falls; NaN counts as -inf and -0.0 as 0.0."""
    number = tl.where(logprob == logprob, logprob, float("-inf")) + 0.0
    bits = number.to(tl.uint32, bitcast=True)
    return tl.where(bits >= 0x80000000, bits, 0x7FFFFFFF - bits)


@triton.jit
def pair_of(key, token):
    """The token's place in the order: logprob descending, then id ascending."""
    return (key.to(tl.uint64) << ID_BITS) | token.to(tl.uint64)


@triton.jit
def logprob_of(pair):
    """The logprob in a pair."""
    key = (pair >> ID_BITS).to(tl.uint32)
    return tl.where(key >= 0x80000000, key, 0x7FFFFFFF - key).to(tl.float32, bitcast=True)


@triton.jit
def token_of(pair):
    """The token in a pair."""
    return (pair & IDS).to(tl.int64)


@triton.jit
def can_be_drawn(best, temperature):
    """Whether noise decides in a row whose best pair this is; else the best token is taken."""
    return (temperature > 0.0) & (best >= INFINITY) & (best < NOTHING)


@triton.jit
def least_mass(min_p):
    """The least exp32(x) of a candidate: ceil(min_p * 2^32) / 2^32, and at least 2^-32."""
    return tl.maximum(tl.ceil(min_p * TWO_32), 1.0) * TINY


@triton.jit
def weight_of(x, least):
    """floor(exp32(x) * 2^32); 0 where that is no candidate, as for NaN."""
    e = exp32(x)
    return (tl.where(e >= least, e, 0.0) * TWO_32).to(tl.uint64)


@triton.jit
def reaching(total, top_p):
    """ceil(total * p), p = floor(top_p * 2^32) / 2^32, exactly; at least 1."""
    p = (top_p * TWO_32).to(tl.uint64)
    need = (total >> 32) * p + (((total & 0xFFFFFFFF) * p + 0xFFFFFFFF) >> 32)
    return tl.maximum(need, 1)


@triton.jit
def ranked(score, token):
    """A number that rises with the score, and among equals as the token falls; -0.0 counts as 0.0."""
    bits = (score + 0.0).to(tl.uint32, bitcast=True)
    rank = tl.where(bits >= 0x80000000, ~bits, bits | 0x80000000)
    return (rank.to(tl.uint64) << 32) | (0x7FFFFFFF - token).to(tl.uint64)


@triton.jit
def best_of(best_ptr, row, n_chunks, CHUNKS: tl.constexpr):
    """The row's first pair, of the first of each chunk."""
    chunk = tl.arange(0, CHUNKS)
    return tl.min(tl.load(best_ptr + (row * n_chunks + chunk) * 2, mask=chunk < n_chunks, other=LAST), axis=0)
