"""Penalties on tokens already seen, and bans: every logit is changed by itself, so a row cannot see another.

The bits of `kernels/cpu/penalties.py`: repetition (divide where positive, else multiply), then minus
frequency * count, then minus presence, then a ban, each one rounded float32 operation.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.penalise repetition,frequency,presence,ban float32"

COPY_BLOCK = 4096
COPY_WARPS = 4
PATCH_BLOCK = 4096
PATCH_WARPS = 16


@triton.jit
def _widen(x):
    """As float32, NaN's bits kept."""
    if x.dtype == tl.bfloat16:
        return (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:  # noqa: RET505  Triton compiles one branch, and nothing that stands after both
        return x.to(tl.float32)


@triton.jit
def _copy_kernel(logits_ptr, out_ptr, n_cols, logits_stride, out_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < n_cols
    x = tl.load(logits_ptr + row * logits_stride + cols, mask=mask)
    tl.store(out_ptr + row * out_stride + cols, _widen(x), mask=mask)


@triton.jit
def _patch_kernel(
    logits_ptr, ids_ptr, offsets_ptr, counts_ptr, prompt_ptr, repetition_ptr, presence_ptr, frequency_ptr,
    ban_ids_ptr, ban_offsets_ptr, out_ptr, n_cols, n_ids, n_bans, logits_stride, out_stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * logits_stride
    out_ptr += row * out_stride
    lanes = tl.arange(0, BLOCK)
    repeated = tl.load(repetition_ptr + row)
    present = tl.load(presence_ptr + row)
    frequent = tl.load(frequency_ptr + row)

    if (repeated != 1.0) | (present != 0.0) | (frequent != 0.0):
        start = tl.maximum(tl.load(offsets_ptr + row), 0)
        stop = tl.minimum(tl.load(offsets_ptr + row + 1), n_ids)
        for first in range(start, stop, BLOCK):
            at = first + lanes
            token = tl.load(ids_ptr + at, mask=at < stop, other=-1)
            known = (token >= 0) & (token < n_cols)
            count = tl.load(counts_ptr + at, mask=at < stop, other=0)
            prompt = tl.load(prompt_ptr + at, mask=at < stop, other=0)
            logit = _widen(tl.load(logits_ptr + token, mask=known, other=0.0))
            repelled = tl.where(logit > 0.0, tl.div_rn(logit, repeated), logit * repeated)
            lowered = (repelled - frequent * count.to(tl.float32)) - present
            y = tl.where(count > 0, lowered, repelled)
            # a GPU would make every NaN the same one
            quiet = (logit.to(tl.uint32, bitcast=True) | 0x400000).to(tl.float32, bitcast=True)
            y = tl.where(logit != logit, quiet, y)
            tl.store(out_ptr + token, y, mask=known & ((count > 0) | (prompt != 0)))
        # a token may be both penalised and banned
        tl.debug_barrier()

    start = tl.maximum(tl.load(ban_offsets_ptr + row), 0)
    stop = tl.minimum(tl.load(ban_offsets_ptr + row + 1), n_bans)
    for first in range(start, stop, BLOCK):
        at = first + lanes
        token = tl.load(ban_ids_ptr + at, mask=at < stop, other=-1)
        banned = tl.full((BLOCK,), float("-inf"), tl.float32)
        tl.store(out_ptr + token, banned, mask=(token >= 0) & (token < n_cols))


def penalise(
    logits: DeviceArray,
    ids: DeviceArray,
    offsets: DeviceArray,
    output_counts: DeviceArray,
    in_prompt: DeviceArray,
    repetition: DeviceArray,
    presence: DeviceArray,
    frequency: DeviceArray,
    ban_ids: DeviceArray,
    ban_offsets: DeviceArray,
    out: DeviceArray,
) -> DeviceArray:
    """Penalise every row's seen tokens and ban others; gives `out`, float32 [S, V], which is not `logits`.

    logits [S, V] float32, bfloat16 or float16, rows contiguous. Row s has seen
    ids[offsets[s]:offsets[s + 1]] (int32, each once), each output_counts times in its output (int32) and in
    its prompt where in_prompt (uint8); offsets int64 [S + 1], read on the device, so that ids, output_counts
    and in_prompt may be longer than what is in use. repetition, presence, frequency float32 [S]; 1, 0, 0
    leave a row as it is. Tokens ban_ids[ban_offsets[s]:ban_offsets[s + 1]] become -inf. Repetition counts
    prompt and output (Keskar et al., CTRL, 2019), presence and frequency the output alone.

    A token outside the vocabulary is passed over: the caller checks, as the host cannot look here.
    """
    _check(logits, out, repetition, presence, frequency)
    rows, cols = logits.shape
    if not ids.shape == output_counts.shape == in_prompt.shape:
        raise ValueError(
            f"penalise: {ids.count} ids, {output_counts.count} output_counts, {in_prompt.count} in_prompt, "
            "expected one number"
        )
    if offsets.count != rows + 1 or ban_offsets.count != rows + 1:
        raise ValueError(
            f"penalise: {offsets.count} offsets and {ban_offsets.count} ban_offsets, expected {rows + 1}"
        )
    strides = logits.strides[0], out.strides[0]
    grid = rows, cdiv(cols, COPY_BLOCK)
    launch(_copy_kernel, grid, logits, out, cols, *strides, BLOCK=COPY_BLOCK, num_warps=COPY_WARPS)
    launch(
        _patch_kernel,
        (rows,),
        *(logits, ids, offsets, output_counts, in_prompt, repetition, presence, frequency),
        *(ban_ids, ban_offsets, out, cols, ids.count, ban_ids.count, *strides),
        BLOCK=PATCH_BLOCK,
        num_warps=PATCH_WARPS,
    )
    return out


def _check(logits: DeviceArray, out: DeviceArray, *of_rows: DeviceArray) -> None:
    if logits.ndim != 2 or out.shape != logits.shape or out.dtype != "float32":
        raise ValueError(
            f"penalise: out is {out.dtype} {list(out.shape)}, logits {list(logits.shape)}, "
            "expected float32 out and one shape [S, V]"
        )
    rows = len(logits)
    if any(each.shape != (rows,) for each in of_rows):
        raise ValueError(f"penalise: repetition, presence and frequency must each have shape [{rows}]")
