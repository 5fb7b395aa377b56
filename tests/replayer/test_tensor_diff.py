"""Distances, bits and patterns of two outputs, on arrays whose answers are known."""

import numpy as np
import pytest

from detrec.engines.builtin.bfloat16 import narrowed
from detrec.kernels.cpu.sample import SAMPLE_DTYPE
from detrec.replayer.tensor_diff import difference, pattern, ulp_distance

SMALLEST = np.float32(1e-45)
LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        pytest.param(1.0, 1.0, 0, id="equal"),
        pytest.param(1.0, np.nextafter(np.float32(1), np.float32(2)), 1, id="neighbours"),
        pytest.param(1.0, 2.0, 1 << 23, id="a power of two"),
        pytest.param(0.0, -0.0, 0, id="two zeros"),
        pytest.param(SMALLEST, -SMALLEST, 2, id="over zero"),
        pytest.param(-1.0, 1.0, 2 * 127 << 23, id="the other sign"),
        pytest.param(LARGEST, np.inf, 1, id="infinity"),
        pytest.param(-np.inf, np.inf, 2 * 255 << 23, id="from end to end"),
        pytest.param(np.nan, 1.0, 0, id="no number"),
    ],
)
def test_distance_in_float32(a, b, distance):
    left, right = (np.array([x], np.float32) for x in (a, b))
    assert ulp_distance(left, right).tolist() == [distance]
    assert ulp_distance(right, left).tolist() == [distance]


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (1.0, 2.0, 1 << 7),
        (-1.0, 1.0, 2 * 127 << 7),
        (0.0, -0.0, 0),
        (np.nan, 1.0, 0),
        (1.0, 1.0078125, 1),
    ],
)
def test_distance_in_bfloat16(a, b, distance):
    left, right = (narrowed(np.array([x], np.float32)) for x in (a, b))
    assert ulp_distance(left, right).tolist() == [distance]


def changed(rows, columns, shape=(4, 128)):
    one = np.ones(shape, np.float32)
    other = one.copy()
    other[np.ix_(rows, columns)] = np.nextafter(np.float32(1), np.float32(2))
    return one, other


@pytest.mark.parametrize(
    ("rows", "columns", "head", "expected"),
    [
        pytest.param([2], [77], 32, "one element", id="one element"),
        pytest.param([0, 2], [77], 0, "column 77", id="one column"),
        pytest.param([0, 1], [96, 99, 127], 32, "head 3", id="one head"),
        pytest.param([1], range(32, 64), 32, "head 1", id="a whole head"),
        pytest.param([1], range(64, 128), 32, "columns 64 to 127", id="two heads"),
        pytest.param([1], [0, *range(66, 128, 2)], 0, "32 of 128 columns", id="a tile and one apart"),
        pytest.param([1], range(64, 127, 2), 0, "columns 64 to 126", id="half of a tile is one"),
        pytest.param([0, 3], range(128), 32, "every column", id="every column"),
        pytest.param([0], range(0, 128, 3), 0, "43 of 128 columns", id="here and there"),
        pytest.param([0], range(128), 128, "every column", id="one head is all there is"),
    ],
)
def test_where_in_a_row(rows, columns, head, expected):
    one, other = changed(rows, list(columns))
    found = difference(one, other, head=head)
    assert found is not None
    assert found.pattern == expected
    assert (found.elements, found.size, found.rows) == (len(rows) * len(columns), one.size, len(rows))
    assert (found.max_ulp, found.flipped_bits, found.finite) == (1, found.elements, True)


def test_elements_of_all_rows_make_a_column():
    one, other = changed([0], [3])
    again, more = changed([1], [64])
    found = difference(np.concatenate((one, again)), np.concatenate((other, more)))
    assert found is not None
    assert (found.elements, found.rows, found.pattern) == (2, 2, "2 of 128 columns")
    assert pattern(np.array([], int), 8, elements=0) == "nothing"


def test_bits_are_compared_and_not_numbers():
    one = np.array([[0.0, np.nan, 1.0]], np.float32)
    other = np.array([[-0.0, np.nan, 1.0]], np.float32)
    found = difference(one, other)
    assert found is not None
    assert (found.elements, found.max_ulp, found.flipped_bits, found.finite) == (1, 0, 1, True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_told_where_it_differs(value):
    one, other = changed([1], [5, 6])
    one[0, 0] = other[0, 0] = value
    assert difference(one, other).finite
    other[1, 6] = value
    assert not difference(one, other).finite
    assert not difference(other, one).finite


def test_bfloat16_is_compared_as_such():
    one, other = (narrowed(x) for x in (np.ones((2, 8), np.float32), np.full((2, 8), -1, np.float32)))
    found = difference(one, other)
    assert (found.max_ulp, found.flipped_bits, found.finite) == (2 * 127 << 7, 16, True)
    other[0, 0] = 0x7FC0
    assert not difference(one, other).finite


def test_of_a_draw_the_fields_are_named():
    one = np.zeros(3, SAMPLE_DTYPE)
    other = one.copy()
    assert difference(one, other).pattern == "nothing"
    other["seed"][1], other["token"][2], other["logprob"][2] = 4, 7, 1
    found = difference(one, other)
    assert found.pattern == "token, seed, logprob"
    assert (found.elements, found.size, found.rows) == (3, 15, 2)
    assert (found.max_ulp, found.flipped_bits) == (127 << 23, 1 + 3 + 7)


def test_other_shapes_and_dtypes_cannot_be_compared():
    one = np.ones((2, 8), np.float32)
    assert difference(one, one[:1]) is None
    assert difference(one, narrowed(one)) is None
