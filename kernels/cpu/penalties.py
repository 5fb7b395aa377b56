"""Penalties on tokens already seen, and bans: every logit is changed by itself, so a row cannot see another.

Order within a logit: repetition (divide where positive, else multiply), then minus frequency * count, then
minus presence, then a ban. Each is one rounded float32 operation; none is fused.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import ONE, ZERO, widen
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.penalise repetition,frequency,presence,ban float32"

BANNED = np.float32(-np.inf)


@compiled
def _penalise(
    logits: np.ndarray,
    ids: np.ndarray,
    offsets: np.ndarray,
    output_counts: np.ndarray,
    in_prompt: np.ndarray,
    repetition: np.ndarray,
    presence: np.ndarray,
    frequency: np.ndarray,
    ban_ids: np.ndarray,
    ban_offsets: np.ndarray,
    out: np.ndarray,
) -> int:
    """The first row that names a token the vocabulary lacks, or -1."""
    vocabulary = logits.shape[1]
    for row in range(logits.shape[0]):
        xs, ys = row_of(logits, row), row_of(out, row)
        for i in range(vocabulary):
            ys[i] = widen(xs[i])
        repeated, present, frequent = repetition[row], presence[row], frequency[row]
        if repeated != ONE or present != ZERO or frequent != ZERO:
            for k in range(offsets[row], offsets[row + 1]):
                token, count = ids[k], output_counts[k]
                if token < 0 or token >= vocabulary:
                    return row
                if count > 0 or in_prompt[k]:
                    logit = widen(xs[token])
                    logit = logit / repeated if logit > ZERO else logit * repeated
                    if count > 0:
                        logit = (logit - frequent * np.float32(count)) - present
                    ys[token] = logit
        for k in range(ban_offsets[row], ban_offsets[row + 1]):
            if ban_ids[k] < 0 or ban_ids[k] >= vocabulary:
                return row
            ys[ban_ids[k]] = BANNED
    return -1


def penalise(
    logits: np.ndarray,
    ids: np.ndarray,
    offsets: np.ndarray,
    output_counts: np.ndarray,
    in_prompt: np.ndarray,
    repetition: np.ndarray,
    presence: np.ndarray,
    frequency: np.ndarray,
    ban_ids: np.ndarray,
    ban_offsets: np.ndarray,
    out: np.ndarray,
) -> np.ndarray:
    """Penalise every row's seen tokens and ban others; gives `out`, float32 [S, V], which is not `logits`.

    logits [S, V] float32 or bfloat16 bits (uint16), rows contiguous. Row s has seen
    ids[offsets[s]:offsets[s + 1]] (int32, each once), each output_counts times in its output (int32) and in
    its prompt where in_prompt (uint8); offsets int64 [S + 1]. repetition, presence, frequency float32 [S];
    1, 0, 0 leave a row as it is. Tokens ban_ids[ban_offsets[s]:ban_offsets[s + 1]] become -inf. Repetition
    counts prompt and output (Keskar et al., CTRL, 2019), presence and frequency the output alone.
    """
    expect_rows("penalise", "logits", logits)
    expect_rows("penalise", "out", out)
    rows = logits.shape[0]
    if out.shape != logits.shape:
        raise ValueError(f"penalise: out has shape {list(out.shape)}, logits {list(logits.shape)}")
    if not repetition.shape == presence.shape == frequency.shape == (rows,):
        raise ValueError(f"penalise: repetition, presence and frequency must each have shape [{rows}]")
    if not ids.size == output_counts.size == in_prompt.size:
        raise ValueError(
            f"penalise: {ids.size} ids, {output_counts.size} output_counts, {in_prompt.size} in_prompt, "
            "expected one number"
        )
    if offsets.size != rows + 1 or ban_offsets.size != rows + 1:
        raise ValueError(
            f"penalise: {offsets.size} offsets and {ban_offsets.size} ban_offsets, expected {rows + 1}"
        )
    if offsets[rows] > ids.size or ban_offsets[rows] > ban_ids.size:
        raise ValueError(f"penalise: offsets end at {offsets[rows]} and {ban_offsets[rows]}, beyond the ids")
    wrong = _penalise(
        *(logits, ids, offsets, output_counts, in_prompt),
        *(repetition, presence, frequency, ban_ids, ban_offsets, out),
    )
    if wrong >= 0:
        raise ValueError(f"penalise: row {wrong} names a token outside the vocabulary of {logits.shape[1]}")
    return out
