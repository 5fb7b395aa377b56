"""Several outputs by one call have the fingerprints that each has by itself."""

import numpy as np
import pytest

from detrec.kernels.cpu.fingerprint import fingerprint
from detrec.kernels.cpu.fingerprint_few import FEW, fingerprint_few
from tests.bits import assert_same_bits

# 1 to 9: every length of the last word
WIDTHS = (1, 2, 3, 5, 7, 8, 9, 576)


def outputs_of(rows: int, dtype: type) -> list[np.ndarray]:
    rng = np.random.default_rng(8)
    bits = np.uint32 if dtype is np.float32 else dtype
    return [rng.integers(0, np.iinfo(bits).max, (rows, width), bits).view(dtype) for width in WIDTHS]


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_each_is_as_if_it_were_alone(rows: int, dtype: type) -> None:
    outputs, out = outputs_of(rows, dtype), np.full(FEW * rows + 5, 7, np.uint64)
    assert fingerprint_few(*outputs, out, 2, rows)
    alone = [fingerprint(output, np.zeros(rows, np.uint64)) for output in outputs]
    assert_same_bits(out[2:-3].copy(), np.concatenate(alone))
    assert out[[0, 1, -3, -2, -1]].tolist() == [7] * 5


def test_what_does_not_fit_is_left_to_others_and_nothing_is_done() -> None:
    outputs, out = outputs_of(2, np.float32), np.zeros(FEW * 2, np.uint64)
    for changed in (
        [*outputs[:-1], outputs[-1][:1]],
        [*outputs[:-1], np.zeros((3, 4), np.float32)],
    ):
        assert not fingerprint_few(*changed, out, 0, 2)
    assert not fingerprint_few(*outputs, out, 1, 2)
    assert not fingerprint_few(*outputs, out, -1, 2)
    strangers = (
        np.zeros((2, 4)),
        outputs_of(2, np.uint16)[-1],
        np.zeros((2, 8), np.float32)[:, ::2],
        np.zeros((4, 2), np.float32)[::2],
        np.zeros(2, [("token", np.int64)]),
    )
    for stranger in strangers:
        with pytest.raises(TypeError):
            fingerprint_few(*outputs[:-1], stranger, out, 0, 2)
    assert not out.any()
