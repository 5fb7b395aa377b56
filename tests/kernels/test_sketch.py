"""The sketch: it means what it says, tells how far rows are apart, and sees one row alone."""

import numpy as np
import pytest

from detrec.kernels.cpu.sketch import signs, sketch
from detrec.kernels.projections import PARTS
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, rough


def sketched(x: np.ndarray) -> np.ndarray:
    return sketch(x, np.full((len(x), PARTS), np.nan, np.float32))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 577])
def test_is_the_norm_and_the_signed_sums(width):
    x = np.random.default_rng(1).standard_normal((7, width)).astype(np.float32)
    exact = x.astype(np.float64)
    found = sketched(x)
    np.testing.assert_allclose(found[:, 0], np.linalg.norm(exact, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1:], exact @ signs(width).T.astype(np.float64), rtol=1e-5, atol=1e-5)


def test_signs_are_fair_and_not_alike():
    table = signs(4096)
    assert np.abs(table.mean(axis=1)).max() < 0.06
    assert np.abs(np.corrcoef(table) - np.eye(3)).max() < 0.06


def test_projections_tell_how_far_rows_are_apart():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((500, 200)).astype(np.float32)
    y = (x + 0.01 * rng.standard_normal(x.shape)).astype(np.float32)
    apart = ((sketched(x) - sketched(y))[:, 1:].astype(np.float64) ** 2).mean(axis=1)
    assert 0.9 < (apart / ((x - y).astype(np.float64) ** 2).sum(axis=1)).mean() < 1.1


def test_row_does_not_see_its_batch_nor_its_stride():
    x = rough(700, 577)
    assert_same_bits(sketched(x), np.concatenate([sketched(x[i : i + 1]) for i in range(700)]))
    wide = np.pad(x, ((0, 0), (3, 4)))
    assert_same_bits(sketched(wide[:, 3:-4]), sketched(x))


def test_another_row_has_another_sketch():
    """Negative control: the test above could not pass on a sketch that sees nothing."""
    x = rough(2, 577)
    assert (sketched(x)[0] != sketched(x)[1]).all()


def test_bfloat16_is_widened():
    x = bfloat16(rough(6, 350))
    assert_same_bits(sketched(x), sketched((x.astype(np.uint32) << 16).view(np.float32)))


def test_large_rows_do_not_overflow():
    assert np.isfinite(sketched(np.full((1, 64), 1e30, np.float32))).all()


def test_no_rows():
    assert sketched(np.zeros((0, 8), np.float32)).shape == (0, PARTS)


@pytest.mark.parametrize(
    ("x", "out"),
    [
        (np.zeros((2, 8)), np.zeros((2, PARTS), np.float32)),
        (np.zeros((2, 8), np.float32), np.zeros((2, 3), np.float32)),
        (np.zeros((2, 8), np.float32), np.zeros((2, PARTS))),
        (np.zeros((8, 2), np.float32).T, np.zeros((2, PARTS), np.float32)),
        (np.zeros(8, np.float32), np.zeros((8, PARTS), np.float32)),
    ],
)
def test_misfits_are_refused(x, out):
    with pytest.raises(ValueError, match="sketch: "):
        sketch(x, out)
