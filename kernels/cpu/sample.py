"""The draw of one token a row, which depends on that row, its seed and its counter, and on nothing else.

With max the row's highest logprob, x = (logprob - max) / temperature and weight = floor(exp32(x) * 2^32),
an integer, so that sums of weights are exact in any order. Tokens are ordered by logprob descending, then
id ascending.

    candidates  weight >= 1, and weight >= ceil(min_p * 2^32)
    top_k       the first k of them; 0 or less keeps all
    top_p       the shortest prefix of those whose weight is at least ceil(p * their sum), and at least one
                token, p = floor(top_p * 2^32) / 2^32; 1 keeps all (Holtzman et al., The Curious Case of
                Neural Text Degeneration, 2019)
    token       argmax of x - log32(-log32(u)) over the kept, ties to the lowest id (the Gumbel-max trick:
                Gumbel, 1954)

u = (n + 0.5) / 2^23, exact in float32; n is the top 23 bits of SplitMix64's output number token + 1 (Steele
et al., Fast Splittable Pseudorandom Number Generators, 2014) from the state mix(mix(seed + G) + counter * G
+ G): a generator of counters, with nothing to advance (Salmon et al., Parallel Random Numbers: As Easy as
1, 2, 3, 2011). Noise spans 19.5 nats and weight 0 means x < -22.1, so that a token that is no candidate
could not win.
"""

import numpy as np
from numba import prange

from detrec.kernels.cpu.compiling import compiled, shared
from detrec.kernels.cpu.draw import WRONG_MIN_P, WRONG_TEMPERATURE, WRONG_TOP_P, draw_row
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.sample gumbel splitmix64 weights=2^-32 u=2^-23"

SAMPLE_DTYPE = np.dtype(
    [("token", "<i8"), ("seed", "<i8"), ("counter", "<i8"), ("logprob", "<f4"), ("margin", "<f4")]
)

PARALLEL_ELEMENTS = 1 << 18
"""Below it, and where every row is greedy, one thread is faster; the bits are equal on either side."""

WRONG = {
    WRONG_TEMPERATURE: "a temperature that is not finite and >= 0",
    WRONG_TOP_P: "a top_p outside [0, 1]",
    WRONG_MIN_P: "a min_p outside [0, 1]",
}


@compiled
def _serial(
    logprobs: np.ndarray,
    temperature: np.ndarray,
    top_k: np.ndarray,
    top_p: np.ndarray,
    min_p: np.ndarray,
    seed: np.ndarray,
    counter: np.ndarray,
    whole: np.ndarray,
    real: np.ndarray,
    wrong: np.ndarray,
) -> None:
    for s in range(logprobs.shape[0]):
        wrong[s] = draw_row(
            row_of(logprobs, s),
            temperature[s],
            top_k[s],
            top_p[s],
            min_p[s],
            seed[s],
            counter[s],
            whole[s],
            real[s],
        )


@shared
def _parallel(
    logprobs: np.ndarray,
    temperature: np.ndarray,
    top_k: np.ndarray,
    top_p: np.ndarray,
    min_p: np.ndarray,
    seed: np.ndarray,
    counter: np.ndarray,
    whole: np.ndarray,
    real: np.ndarray,
    wrong: np.ndarray,
) -> None:
    for s in prange(logprobs.shape[0]):
        e = s + 1
        _serial(
            *(logprobs[s:e], temperature[s:e], top_k[s:e], top_p[s:e], min_p[s:e], seed[s:e], counter[s:e]),
            *(whole[s:e], real[s:e], wrong[s:e]),
        )


def sample(
    logprobs: np.ndarray,
    temperature: np.ndarray,
    top_k: np.ndarray,
    top_p: np.ndarray,
    min_p: np.ndarray,
    seed: np.ndarray,
    counter: np.ndarray,
    out: np.ndarray,
) -> np.ndarray:
    """Draw a token from every row; gives `out`, SAMPLE_DTYPE [S].

    logprobs float32 [S, V], rows contiguous; temperature, top_p, min_p float32 [S]; top_k int32 [S]; seed
    and counter uint64 [S]. Temperature 0 takes the highest logprob, ties to the lowest id, and writes seed
    and counter as 0. `logprob` is the token's own and `margin` the highest minus the second highest of the
    row (inf where there is no second), both in nats.

    Whatever a broken model gives can be drawn from, so that it can be recorded: NaN counts as -inf; a row
    with nothing above -inf gives token 0 with margin 0; a row with +inf is drawn greedily.
    """
    expect_rows("sample", "logprobs", logprobs)
    rows = logprobs.shape[0]
    if logprobs.dtype != np.float32:
        raise ValueError(f"sample: logprobs are {logprobs.dtype}, expected float32")
    if (
        not temperature.shape
        == top_k.shape
        == top_p.shape
        == min_p.shape
        == seed.shape
        == counter.shape
        == (rows,)
    ):
        raise ValueError(f"sample: every parameter must have shape [{rows}], as logprobs has {rows} rows")
    if out.shape != (rows,) or out.dtype != SAMPLE_DTYPE or not out.flags.c_contiguous:
        raise ValueError(f"sample: out is {out.dtype} {list(out.shape)}, expected SAMPLE_DTYPE [{rows}]")
    if not rows:
        return out
    whole, real = out.view(np.int64).reshape(rows, 4), out.view(np.float32).reshape(rows, 8)
    wrong = np.empty(rows, np.int64)
    draw = _parallel if rows > 1 and logprobs.size >= PARALLEL_ELEMENTS and temperature.any() else _serial
    draw(logprobs, temperature, top_k, top_p, min_p, seed, counter, whole, real, wrong)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"sample: row {first} has {WRONG[int(wrong[first])]}")
    return out
