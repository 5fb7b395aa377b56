"""The draw of one token a row, which depends on that row, its seed and its counter, and on nothing else.

What is drawn is what `kernels/cpu/sample.py` says, in the same bits: every sum is of integers and every
choice a minimum or maximum of distinct numbers, so that chunks of a row may be read in any order.

Rows skip the work that they did not ask for, on the device: a greedy row is read once.
"""

from collections.abc import Sequence

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import cut as cutting
from detrec.kernels.gpu.cut import Scratch
from detrec.kernels.gpu.draw import (
    ID_BITS,
    LAST,
    MAX_VOCABULARY,
    NOTHING,
    best_of,
    can_be_drawn,
    gumbel,
    least_mass,
    logprob_of,
    noise_key,
    order_key,
    pair_of,
    ranked,
    token_of,
)
from detrec.kernels.gpu.interval import choose_pivots, is_cut
from detrec.kernels.gpu.portable import exp32
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.sample gumbel splitmix64 weights=2^-32 u=2^-23"

BEST_WARPS = 4
PIVOT_PARTS = 16
NOISE_BLOCK = 1024
NOISE_WARPS = 4


@triton.jit
def _best_kernel(
    logprobs_ptr, best_ptr, pivots_ptr, listed_ptr, temperature_ptr, top_k_ptr, top_p_ptr,
    n_cols, stride, n_chunks,
    CHUNK: tl.constexpr, SAMPLE: tl.constexpr, PARTS: tl.constexpr, PIVOTS: tl.constexpr,
):  # fmt: skip
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    temperature = tl.load(temperature_ptr + row)
    logprobs_ptr += row * stride
    if chunk >= n_chunks:
        if is_cut(temperature, tl.load(top_k_ptr + row), tl.load(top_p_ptr + row)):
            part = chunk - n_chunks
            choose_pivots(logprobs_ptr, pivots_ptr + row * PIVOTS, part, n_cols, SAMPLE, PARTS, PIVOTS)
            if part == 0:
                tl.store(listed_ptr + row, 0)
    elif temperature >= 0.0:
        token = chunk * CHUNK + tl.arange(0, CHUNK)
        key = order_key(tl.load(logprobs_ptr + token, mask=token < n_cols, other=float("-inf")))
        lowest = tl.min(key, axis=0)
        first = tl.min(tl.where(key == lowest, token, n_cols), axis=0)
        # a lone token has -inf beside it
        second = tl.min(tl.where(token == first, NOTHING >> ID_BITS, key), axis=0)
        best_ptr += (row * n_chunks + chunk) * 2
        tl.store(best_ptr, pair_of(lowest, first))
        tl.store(best_ptr + 1, pair_of(second, first * 0))


@triton.jit
def _noise_kernel(
    logprobs_ptr, best_ptr, last_ptr, noisiest_ptr,
    temperature_ptr, top_k_ptr, top_p_ptr, min_p_ptr, seed_ptr, counter_ptr,
    n_cols, stride, n_chunks, CHUNK: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    temperature = tl.load(temperature_ptr + row)
    if temperature > 0.0:
        best = best_of(best_ptr, row, n_chunks, CHUNKS)
        if can_be_drawn(best, temperature):
            highest, least = logprob_of(best), least_mass(tl.load(min_p_ptr + row))
            last = tl.full((), NOTHING, tl.uint64)
            if is_cut(temperature, tl.load(top_k_ptr + row), tl.load(top_p_ptr + row)):
                last = tl.load(last_ptr + row)
            noise = noise_key(tl.load(seed_ptr + row), tl.load(counter_ptr + row))
            noisiest = tl.full((), 0, tl.uint64)
            for start in range(0, CHUNK, BLOCK):
                token = chunk * CHUNK + start + tl.arange(0, BLOCK)
                at = logprobs_ptr + row * stride + token
                logprob = tl.load(at, mask=token < n_cols, other=float("-inf"))
                kept = pair_of(order_key(logprob), token) <= last
                # noise is dear, and a cut leaves few to need it
                if tl.max(kept.to(tl.int32), axis=0) > 0:
                    x = tl.div_rn(logprob - highest, temperature)
                    kept = kept & (exp32(x) >= least)
                    score = x + gumbel(noise, token)
                    found = tl.max(tl.where(kept, ranked(score, token), 0), axis=0)
                    noisiest = tl.maximum(noisiest, found)
            tl.store(noisiest_ptr + row * n_chunks + chunk, noisiest)


@triton.jit
def _record_kernel(
    logprobs_ptr, best_ptr, noisiest_ptr, temperature_ptr, seed_ptr, counter_ptr, whole_ptr, real_ptr,
    stride, n_chunks, CHUNKS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    temperature = tl.load(temperature_ptr + row)
    token, seed, counter = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    logprob, margin = tl.full((), 0.0, tl.float32), tl.full((), 0.0, tl.float32)
    if temperature >= 0.0:
        chunk = tl.arange(0, CHUNKS)
        at = best_ptr + (row * n_chunks + chunk) * 2
        firsts = tl.load(at, mask=chunk < n_chunks, other=LAST)
        seconds = tl.load(at + 1, mask=chunk < n_chunks, other=LAST)
        best = tl.min(firsts, axis=0)
        if best < NOTHING:
            token = token_of(best)
            # a chunk's second, or another chunk's first
            second = tl.min(tl.where(firsts == best, seconds, firsts), axis=0)
            margin = logprob_of(best) - logprob_of(second)
            # inf - inf, which has its sign set on a CPU
            negative = tl.full((), 0xFFC00000, tl.uint32).to(tl.float32, bitcast=True)
            margin = tl.where(margin == margin, margin, negative)
        if can_be_drawn(best, temperature):
            found = tl.load(noisiest_ptr + row * n_chunks + chunk, mask=chunk < n_chunks, other=0)
            noisiest = tl.max(found, axis=0)
            # 0, where nothing is kept, is no token: parameters out of their range read no other memory
            drawn = 0x7FFFFFFF - (noisiest & 0xFFFFFFFF).to(tl.int64)
            token = tl.where(noisiest > 0, drawn, token)
            seed = tl.load(seed_ptr + row).to(tl.int64, bitcast=True)
            counter = tl.load(counter_ptr + row).to(tl.int64, bitcast=True)
        logprob = tl.load(logprobs_ptr + row * stride + token)
    tl.store(whole_ptr + row * 4, token)
    tl.store(whole_ptr + row * 4 + 1, seed)
    tl.store(whole_ptr + row * 4 + 2, counter)
    tl.store(real_ptr + row * 8 + 6, logprob)
    tl.store(real_ptr + row * 8 + 7, margin)


def _parts(rows: int, vocabulary: int, address: int = 0, owner: object = None) -> Scratch:
    """What scratch at `address` holds. Each begins where 16 divides: a launch compiles that apart."""
    chunks = cdiv(vocabulary, cutting.CHUNK)
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "best": ("uint64", (rows, chunks, 2)),
        "pivots": ("uint64", (rows, cutting.PIVOTS)),
        "masses": ("float32", (rows, chunks, cutting.PIVOTS)),
        "interval": ("uint64", (rows, 3)),
        "sums": ("uint64", (rows, chunks, 2)),
        "pairs": ("uint64", (rows, cutting.LISTED)),
        "weights": ("uint32", (rows, cutting.LISTED)),
        "listed": ("int32", (rows,)),
        "last": ("uint64", (rows,)),
        "noisiest": ("uint64", (rows, chunks)),
    }
    parts = {}
    for name, (dtype, shape) in shapes.items():
        parts[name] = DeviceArray(address, dtype, shape, (), owner)
        address += cdiv(parts[name].nbytes, 16) * 16
    return Scratch(**parts)


def scratch_bytes(rows: int, vocabulary: int) -> int:
    """How many bytes of scratch `sample` needs for logprobs [rows, vocabulary]; fewer rows need no more."""
    final = _parts(rows, vocabulary).noisiest
    return final.address + final.nbytes


def sample(
    logprobs: DeviceArray,
    temperature: DeviceArray,
    top_k: DeviceArray,
    top_p: DeviceArray,
    min_p: DeviceArray,
    seed: DeviceArray,
    counter: DeviceArray,
    out: DeviceArray,
    scratch: DeviceArray,
) -> DeviceArray:
    """Draw a token from every row; gives `out`, int64 [S, 4]: the memory of S SAMPLE_DTYPE of the CPU kernel.

    logprobs float32 [S, V], rows contiguous, V at most 2^20; temperature, top_p, min_p float32 [S]; top_k
    int32 [S]; seed and counter uint64 [S]; scratch uint8 of at least `scratch_bytes`, 16-byte aligned.
    Temperature 0 takes the highest logprob, ties to the lowest id, and writes seed and counter as 0; a
    negative one marks a row as padding, which is not read and written as zeros. `logprob` is the token's own
    and `margin` the highest minus the second highest of the row (inf where there is no second), both in nats.

    Whatever a broken model gives can be drawn from: NaN counts as -inf; a row with nothing above -inf gives
    token 0 with margin 0; a row with +inf is drawn greedily. Other parameters out of their range are for the
    caller to refuse, as the host cannot look here.
    """
    given = temperature, top_k, top_p, min_p, seed, counter
    _expect(logprobs, given, out, scratch)
    rows, cols = logprobs.shape
    of = _parts(rows, cols, scratch.address, scratch.owner)
    stride, chunks = logprobs.strides[0], cdiv(cols, cutting.CHUNK)
    lanes = triton.next_power_of_2(chunks)
    launch(
        _best_kernel, (rows, chunks + PIVOT_PARTS), logprobs, of.best, of.pivots, of.listed, temperature,
        top_k, top_p, cols, stride, chunks, CHUNK=cutting.CHUNK, SAMPLE=cutting.SAMPLE, PARTS=PIVOT_PARTS,
        PIVOTS=cutting.PIVOTS, num_warps=BEST_WARPS,
    )  # fmt: skip
    cutting.cut(logprobs, of, temperature, top_k, top_p, min_p)
    launch(
        _noise_kernel, (rows, chunks), logprobs, of.best, of.last, of.noisiest, *given, cols, stride, chunks,
        CHUNK=cutting.CHUNK, CHUNKS=lanes, BLOCK=NOISE_BLOCK, num_warps=NOISE_WARPS,
    )  # fmt: skip
    real = DeviceArray(out.address, "float32", (rows, 8), (), out.owner)
    launch(
        _record_kernel, (rows,), logprobs, of.best, of.noisiest, temperature, seed, counter, out, real,
        stride, chunks, CHUNKS=lanes, num_warps=1,
    )  # fmt: skip
    return out


def _expect(
    logprobs: DeviceArray, given: Sequence[DeviceArray], out: DeviceArray, scratch: DeviceArray
) -> None:
    if logprobs.ndim != 2 or logprobs.dtype != "float32":
        raise ValueError(
            f"sample: logprobs are {logprobs.dtype} {list(logprobs.shape)}, expected float32 [S, V]"
        )
    rows, cols = logprobs.shape
    if not 0 < cols <= MAX_VOCABULARY:
        raise ValueError(f"sample: a vocabulary of {cols}, expected 1 to {MAX_VOCABULARY}")
    if any(parameter.shape != (rows,) for parameter in given):
        raise ValueError(f"sample: every parameter must have shape [{rows}], as logprobs has {rows} rows")
    if out.shape != (rows, 4) or out.dtype != "int64" or not out.is_contiguous:
        raise ValueError(
            f"sample: out is {out.dtype} {list(out.shape)}, expected contiguous int64 [{rows}, 4]"
        )
    needed = scratch_bytes(rows, cols)
    if scratch.nbytes < needed or scratch.address % 16:
        raise ValueError(f"sample: {scratch.nbytes} bytes of scratch, expected {needed}, 16-byte aligned")
