from dataclasses import dataclass

import numpy as np
import pytest

from detrec.kernels.cpu.penalties import penalise
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats

V = 300


@dataclass(frozen=True, slots=True)
class Row:
    """One row's history and weights."""

    prompt: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    banned: tuple[int, ...] = ()


MIXED = (
    Row(),
    Row((3, 5, 5), (5, 9, 9, 9), 1.3),
    Row((3,), (9, 9, 17), 1.0, 0.7, 0.31),
    Row((), (), 1.7, 0.2, 0.1, (0, 299)),
    Row((1, 2), (2, 2, 2, 2), 1.21, -0.37, 0.113, (2,)),
)


def logits(rows: int) -> np.ndarray:
    return (np.random.default_rng(10).standard_normal((rows, V)) * 5).astype(np.float32)


def run(x: np.ndarray, rows: tuple[Row, ...]) -> np.ndarray:
    seen = [sorted({*r.prompt, *r.output}) for r in rows]
    pairs = [(r, token) for r, ids in zip(rows, seen, strict=True) for token in ids]
    return penalise(
        x,
        np.array([token for _, token in pairs], np.int32),
        np.cumsum([0, *map(len, seen)], dtype=np.int64),
        np.array([r.output.count(token) for r, token in pairs], np.int32),
        np.array([token in r.prompt for r, token in pairs], np.uint8),
        np.array([r.repetition for r in rows], np.float32),
        np.array([r.presence for r in rows], np.float32),
        np.array([r.frequency for r in rows], np.float32),
        np.array([token for r in rows for token in r.banned], np.int32),
        np.cumsum([0, *(len(r.banned) for r in rows)], dtype=np.int64),
        np.full(x.shape, np.nan, np.float32),
    )


def promised(x: np.ndarray, rows: tuple[Row, ...]) -> np.ndarray:
    """Token by token, in float32, in the order that the module states."""
    out, f = x.copy(), np.float32
    for y, r in zip(out, rows, strict=True):
        for token in {*r.prompt, *r.output}:
            y[token] = y[token] / f(r.repetition) if y[token] > 0 else y[token] * f(r.repetition)
            if count := r.output.count(token):
                y[token] = (y[token] - f(r.frequency) * f(count)) - f(r.presence)
        y[list(r.banned)] = -np.inf
    return out


def test_penalises_what_was_seen_and_nothing_else():
    x = logits(5)
    assert_same_bits(run(x, MIXED), promised(x, MIXED))


def test_means_the_formula():
    x = np.array([[4.0, -4.0, 4.0, 1.0]], np.float32)
    row = Row(prompt=(0,), output=(1, 1, 2), repetition=2.0, presence=0.5, frequency=0.25)
    assert run(x, (row,)).tolist() == [[2.0, -9.0, 1.25, 1.0]]


def test_a_neutral_row_is_copied():
    x = logits(1)
    assert_same_bits(run(x, (Row((1, 2), (3,)),)), x)


def test_row_does_not_see_its_batch():
    x = logits(5)
    alone = np.concatenate([run(x[i : i + 1], MIXED[i : i + 1]) for i in range(5)])
    assert_same_bits(run(x, MIXED), alone)


def test_another_order_of_penalties_has_other_bits():
    """Negative control: presence before frequency rounds otherwise on this data."""
    x, f = logits(1), np.float32
    output = tuple(range(V)) * 3
    other = (x - f(0.7)) - f(0.31) * f(3)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(run(x, (Row((), output, 1.0, 0.7, 0.31),)), other)


def test_bfloat16_logits_are_widened_first():
    x = bfloat16(logits(5))
    assert_same_bits(run(x, MIXED), run(floats(x), MIXED))


def test_no_rows():
    assert run(np.empty((0, V), np.float32), ()).shape == (0, V)


@pytest.mark.parametrize(
    "row", [Row((V,), (), 1.5), Row((-1,), (), 1.5), Row(banned=(V,)), Row(banned=(-1,))]
)
def test_rejects_a_token_outside_the_vocabulary(row):
    with pytest.raises(ValueError, match="row 1 names a token outside the vocabulary of 300"):
        run(logits(2), (Row(), row))


def test_rejects_a_row_too_few():
    with pytest.raises(ValueError, match="must each have shape"):
        run(logits(3), MIXED)
