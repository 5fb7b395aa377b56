"""Penalties on the GPU: the CPU kernel's bits in every dtype, rows alone and in company, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu.penalties import penalise as cpu_penalise
from detrec.kernels.gpu.penalties import penalise
from detrec.kernels.launch import INTERPRETED
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host

F = np.float32
# 1: a lone token. 300: one ragged block. 5000: a whole block of 4096 and a ragged one.
VOCABULARIES = [1, 300, 5000] if INTERPRETED else [1, 300, 5000, 152064]

KINDS = (np.int32, np.int64, np.int32, np.uint8, F, F, F, np.int32, np.int64)


def logits(rows: int, vocabulary: int) -> np.ndarray:
    x = (np.random.default_rng(10).standard_normal((rows, vocabulary)) * 5).astype(F)
    x[:, ::7] = np.array([np.nan, np.inf, -np.inf, 0.0], F)[np.arange(rows) % 4][:, None]
    return x


def asked(rows: int, vocabulary: int) -> list[np.ndarray]:
    """Histories of up to half the vocabulary; every fifth row is neutral, every third bans some."""
    rng = np.random.default_rng(rows)
    seen = [rng.permutation(vocabulary)[: rng.integers(vocabulary // 2 + 2)] for _ in range(rows)]
    banned = [ids[:5] if row % 3 == 0 else ids[:0] for row, ids in enumerate(seen)]
    total = sum(map(len, seen))
    neutral = np.arange(rows) % 5 == 4
    given = (
        np.concatenate([*seen, np.empty(0)]),
        np.cumsum([0, *map(len, seen)]),
        rng.integers(0, 4, total),
        rng.integers(0, 2, total),
        np.where(neutral, 1.0, rng.uniform(0.5, 2, rows)),
        np.where(neutral, 0.0, rng.uniform(-2, 2, rows)),
        np.where(neutral, 0.0, rng.uniform(-2, 2, rows)),
        np.concatenate([*banned, np.empty(0)]),
        np.cumsum([0, *map(len, banned)]),
    )
    return [np.asarray(values).astype(kind) for values, kind in zip(given, KINDS, strict=True)]


def on_device(x, given: list[np.ndarray]) -> np.ndarray:
    # a GPU says nothing of inf - inf, numpy does
    with np.errstate(invalid="ignore"):
        return host(penalise(x, *map(device, given), fresh(x.shape, "float32")))


def on_cpu(x: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    return cpu_penalise(x, *given, np.full(x.shape, np.nan, F))


def row_of(given: list[np.ndarray], row: int) -> list[np.ndarray]:
    ids, offsets, counts, prompt, repetition, presence, frequency, ban_ids, ban_offsets = given
    own, bans = slice(*offsets[row : row + 2]), slice(*ban_offsets[row : row + 2])
    ends = np.array([0, own.stop - own.start]), np.array([0, bans.stop - bans.start])
    return [
        *(ids[own], ends[0], counts[own], prompt[own]),
        *(weights[row : row + 1] for weights in (repetition, presence, frequency)),
        *(ban_ids[bans], ends[1]),
    ]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_penalises_as_the_cpu_does(vocabulary, dtype):
    numbers, given = logits(7, vocabulary), asked(7, vocabulary)
    if dtype == "float16":
        # its NaN is widened to another one
        numbers = np.where(numbers == numbers, numbers, F(1))
    x = floats(numbers, dtype)
    stored = host(x)
    meant = on_cpu(stored.astype(F) if dtype == "float16" else stored, given)
    assert_same_bits(on_device(x, given), meant)


def test_row_does_not_see_its_batch():
    x, given = logits(6, 300), asked(6, 300)
    alone = [on_device(device(x[i : i + 1]), row_of(given, i)) for i in range(6)]
    assert_same_bits(on_device(device(x), given), np.concatenate(alone))


def test_another_weight_has_other_bits():
    """Negative control: a row that took its neighbour's weights would fail the test above."""
    x, given = logits(6, 300), asked(6, 300)
    turned = [*given[:4], *(weights[::-1].copy() for weights in given[4:7]), *given[7:]]
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(on_device(device(x), given), on_device(device(x), turned))


def test_what_lies_behind_the_offsets_is_not_read():
    x, given = logits(3, 300), asked(3, 300)
    longer = [
        np.concatenate([v, np.ones(50, v.dtype)]) if i in (0, 2, 3, 7) else v for i, v in enumerate(given)
    ]
    assert_same_bits(on_device(device(x), longer), on_device(device(x), given))


def test_a_token_outside_the_vocabulary_is_passed_over():
    x, given = logits(3, 300), asked(3, 300)
    meant = on_device(device(x), given)
    for wrong in (-1, 300, 2**31 - 1):
        ids, counts, prompt = np.append(given[0], wrong), np.append(given[2], 1), np.append(given[3], 1)
        ends = given[1] + np.array([0, 0, 0, 1])
        bans, ban_ends = np.append(given[7], wrong), given[8] + np.array([0, 0, 0, 1])
        kinds = [
            a.astype(k)
            for a, k in zip((ids, ends, counts, prompt, *given[4:7], bans, ban_ends), KINDS, strict=True)
        ]
        assert_same_bits(on_device(device(x), kinds), meant)


def test_rows_may_be_a_slice_of_wider_ones():
    x, given = logits(3, 500), asked(3, 300)
    wide = device(x)[:, 100:400]
    got = host(penalise(wide, *map(device, given), fresh((3, 300), "float32")))
    assert_same_bits(got, on_cpu(np.ascontiguousarray(x[:, 100:400]), given))


def test_no_rows():
    assert on_device(device(np.empty((0, 300), F)), asked(0, 300)).shape == (0, 300)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (0, "expected one number"),
        (1, "3 offsets and 3 ban_offsets, expected 3|2 offsets and 3 ban_offsets, expected 3"),
        (5, r"must each have shape \[2\]"),
        (8, "3 offsets and 2 ban_offsets, expected 3"),
    ],
)
def test_rejects_arrays_too_short(place, message):
    given = asked(2, 300)
    given[place] = given[place][:-1]
    with pytest.raises(ValueError, match=message):
        penalise(device(logits(2, 300)), *map(device, given), fresh((2, 300), "float32"))


def test_rejects_out_of_another_shape():
    with pytest.raises(ValueError, match=r"out is float32 \[2, 299\], logits \[2, 300\]"):
        penalise(device(logits(2, 300)), *map(device, asked(2, 300)), fresh((2, 299), "float32"))
