"""What crosses between ranks, as kernels see it: units of words, the floats in them, their sum over ranks.

A unit is what a thread takes at a time: UNIT bytes of what goes in, 4 words; what comes out of it may be
narrower. Everything here is a tuple of tensors, one for a word or a float of the unit.
"""

from detrec.kernels.gpu.peer_words import load_units, settle, store_units
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import tl, triton

UNIT = 16


@triton.jit
def floats_of(words, dtype: tl.constexpr):
    """The values of `dtype` in `words`, as float32: one a word, or two."""
    out = tl.tuple(())
    for word in tl.static_range(len(words)):
        bits = words[word]
        if dtype == tl.float32:
            out += (bits.to(tl.float32, bitcast=True),)
        elif dtype == tl.bfloat16:
            high = (bits & 0xFFFF0000).to(tl.float32, bitcast=True)
            out += ((bits << 16).to(tl.float32, bitcast=True), high)
        else:
            low = (bits & 0xFFFF).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
            high = (bits >> 16).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
            out += (low, high)
    return out


@triton.jit
def words_of(floats, dtype: tl.constexpr):
    """`floats` rounded to `dtype`, as words."""
    out = tl.tuple(())
    if dtype == tl.float32:
        for place in tl.static_range(len(floats)):
            out += (floats[place].to(tl.uint32, bitcast=True),)
    else:
        for pair in tl.static_range(len(floats) // 2):
            low = narrow(floats[2 * pair], dtype).to(tl.uint16, bitcast=True).to(tl.uint32)
            high = narrow(floats[2 * pair + 1], dtype).to(tl.uint16, bitcast=True).to(tl.uint32)
            out += (low | (high << 16),)
    return out


@triton.jit
def _plus(left, right):
    out = tl.tuple(())
    for place in tl.static_range(len(left)):
        out += (left[place] + right[place],)
    return out


@triton.jit
def _pairs(values):
    """One level of the tree: neighbours added, the last one kept where it has none."""
    out = tl.tuple(())
    for pair in tl.static_range(len(values) // 2):
        out += (_plus(values[2 * pair], values[2 * pair + 1]),)
    if len(values) % 2 == 1:
        out += (values[len(values) - 1],)
    return out


@triton.jit
def sum_over_ranks(units, dtype: tl.constexpr, ORDERED: tl.constexpr):
    """The float32 sums of the units of each rank: in rank order, or else in the tree over up to 8 ranks."""
    values = tl.tuple(())
    for rank in tl.static_range(len(units)):
        values += (floats_of(units[rank], dtype),)
    if ORDERED:
        total = values[0]
        for rank in tl.static_range(1, len(values)):
            total = _plus(total, values[rank])
        return total
    else:  # noqa: RET505  Triton compiles one branch
        return _pairs(_pairs(_pairs(values)))[0]


@triton.jit
def _bits_at(ptr, mask):
    """Elements of 2 or 4 bytes as words."""
    BITS: tl.constexpr = ptr.dtype.element_ty.primitive_bitwidth
    KIND: tl.constexpr = tl.uint16 if BITS == 16 else tl.uint32
    return tl.load(ptr, mask=mask, other=0.0).to(KIND, bitcast=True).to(tl.uint32)


@triton.jit
def take(x_ptr, units, live, n_elements, WORDS: tl.constexpr, WHOLE: tl.constexpr):
    """The words of `units` of x. Without WHOLE, x begins anywhere, and elements past its end are 0."""
    if WHOLE:
        return load_units(x_ptr.to(tl.int64) + units.to(tl.int64) * (4 * WORDS), live, WORDS)
    else:  # noqa: RET505  Triton compiles one branch
        PER: tl.constexpr = 32 // x_ptr.dtype.element_ty.primitive_bitwidth
        out = tl.tuple(())
        for word in tl.static_range(WORDS):
            element = (units * WORDS + word) * PER
            bits = _bits_at(x_ptr + element, live & (element < n_elements))
            if PER == 2:
                bits |= _bits_at(x_ptr + element + 1, live & (element + 1 < n_elements)) << 16
            out += (bits,)
        return out


@triton.jit
def element_of(words, place: tl.constexpr, dtype: tl.constexpr):
    """Element `place` of a unit."""
    if dtype == tl.float32:
        return words[place].to(tl.float32, bitcast=True)
    else:  # noqa: RET505  Triton compiles one branch
        half = words[place // 2] >> (16 * (place % 2))
        return (half & 0xFFFF).to(tl.uint16).to(dtype, bitcast=True)


@triton.jit
def give(out_ptr, units, words, live, n_elements, WHOLE: tl.constexpr):
    """Write what `take` would read."""
    if WHOLE:
        store_units(out_ptr.to(tl.int64) + units.to(tl.int64) * (4 * len(words)), words, live)
    else:
        KIND: tl.constexpr = out_ptr.dtype.element_ty
        SIZE: tl.constexpr = len(words) * (32 // KIND.primitive_bitwidth)
        for place in tl.static_range(SIZE):
            element = units * SIZE + place
            tl.store(out_ptr + element, element_of(words, place, KIND), mask=live & (element < n_elements))


@triton.jit
def heard(own, rank, staging, stride, live, limit, failed, told, N: tl.constexpr):
    """Each rank's unit: `own` for `rank`, another's once it has come to `staging` + source * `stride`."""
    # not a scalar: the interpreter cannot spread a scalar condition
    ranks = tl.zeros(live.shape, tl.int32) + rank
    found = tl.tuple(())
    for source in tl.static_range(N):
        awaited = live & (ranks != source)
        found += (load_units(staging + source * stride, awaited, len(own)),)
    units = tl.tuple(())
    for source in tl.static_range(N):
        awaited = live & (ranks != source)
        come = settle(found[source], staging + source * stride, awaited, source + 1, limit, failed, told)
        unit = tl.tuple(())
        for word in tl.static_range(len(own)):
            unit += (tl.where(ranks == source, own[word], come[word]),)
        units += (unit,)
    return units
