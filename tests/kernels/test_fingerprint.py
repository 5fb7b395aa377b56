"""What a fingerprint means, that it never changes, and that natural faults change it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detrec.kernels.cpu import fingerprint as module
from detrec.kernels.cpu.fingerprint import fingerprint, reference
from tests.bits import assert_same_bits

NAMES = {np.float32: "float32", np.uint16: "bfloat16", np.int64: "int64"}


def prints(x: np.ndarray) -> np.ndarray:
    """Fingerprints into memory that holds something else."""
    return fingerprint(x, np.full(len(x), 0xDEAD, np.uint64))


def rows_of(rows: int, width: int, dtype: type = np.float32, seed: int = 3) -> np.ndarray:
    """Random bits of a dtype, NaN and all; finite numbers for float32."""
    rng = np.random.default_rng(seed)
    if dtype is np.float32:
        return rng.standard_normal((rows, width)).astype(np.float32)
    return rng.integers(0, 1 << 16, (rows, width)).astype(dtype)


# 1 to 9: every length of the last word. 576 and 577: whole words and not.
@pytest.mark.parametrize("width", [0, 1, 2, 3, 5, 7, 8, 9, 576, 577])
@pytest.mark.parametrize("dtype", NAMES)
def test_matches_reference(width, dtype):
    x = rows_of(5, width, dtype)
    assert_same_bits(prints(x), reference(x, NAMES[dtype]))


def golden() -> list[int]:
    """Fingerprints of a few rows made without a random generator."""
    counts = np.arange(3 * 9).reshape(3, 9)
    return [
        *prints((counts * 0.37 - 4).astype(np.float32)).tolist(),
        *prints((counts * 2477).astype(np.uint16)).tolist(),
        *prints(counts * 0x123456789ABC).tolist(),
        *prints(np.zeros((1, 576), np.float32)).tolist(),
    ]


GOLDEN = [
    0xEE2FFC1E730C53FC,
    0xF701FB3599B71718,
    0x10486C9377997850,
    0xB666DCC11B9D4945,
    0x103F338DD858B617,
    0xC709A9108C7363EB,
    0x9AF83BD3AEEE2A95,
    0xB82C40A93290C656,
    0xE5AF92F33320B4A3,
    0x457D201B5A6F7F93,
]


def test_never_changes():
    """To change a value here is to bump KERNELS_VERSION: no trace recorded before can be compared."""
    assert golden() == GOLDEN


def test_another_cpu_gives_the_same_values():
    run = subprocess.run(
        [sys.executable, "-c", "from tests.kernels.test_fingerprint import golden; print(golden())"],
        env={**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == str(GOLDEN), run.stderr


def flipped(row: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Copies of `row`, copy i with bits[i] (one or several numbers) flipped."""
    copies = np.repeat(row.view(np.uint8)[None], len(bits), axis=0)
    for column in bits.reshape(len(bits), -1).T:
        copies[np.arange(len(bits)), column // 8] ^= (1 << column % 8).astype(np.uint8)
    return copies.view(row.dtype)


@pytest.mark.parametrize("dtype", NAMES)
def test_every_bit_counts(dtype):
    for row in rows_of(3, 37, dtype):
        copies = flipped(row, np.arange(37 * row.itemsize * 8))
        found = np.concatenate([prints(row[None]), prints(copies)])
        assert len(np.unique(found)) == len(found)


def widened_bfloat16(width: int) -> np.ndarray:
    """A float32 row whose low 16 bits are zero in every element."""
    return (rows_of(1, width).view(np.uint32) & 0xFFFF0000).view(np.float32)[0]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(rows_of(1, 576)[0], id="normal"),
        pytest.param(widened_bfloat16(576), id="widened bfloat16"),
        pytest.param(np.zeros(576, np.float32), id="zeros"),
        pytest.param(np.ones(576, np.float32), id="ones"),
    ],
)
@pytest.mark.parametrize("kind", ["any bit", "signs", "low bits"])
def test_several_flips_at_once_do_not_cancel(row, kind):
    rng = np.random.default_rng(8)
    lane = np.argsort(rng.random((10_000, 576)), axis=1)[:, :4]
    bit = {
        "any bit": rng.integers(0, 32, lane.shape),
        "signs": 31,
        "low bits": rng.integers(0, 2, lane.shape),
    }[kind]
    for count in (2, 4):
        places = np.unique(np.sort((lane * 32 + bit)[:, :count], axis=1), axis=0)
        found = np.concatenate([prints(row[None]), prints(flipped(row, places))])
        assert len(np.unique(found)) == len(found)


def test_a_flip_changes_half_of_the_bits():
    row = rows_of(1, 576)
    change = prints(flipped(row[0], np.arange(576 * 32))) ^ prints(row)
    assert 31.5 < np.bitwise_count(change).mean() < 32.5


def test_the_order_of_elements_counts():
    row = rows_of(1, 64)[0]
    copies = [row]
    for i in range(64):
        for j in range(i):
            swap = row.copy()
            swap[[i, j]] = row[[j, i]]
            copies.append(swap)
    found = prints(np.array(copies))
    assert len(np.unique(found)) == len(found)


# 700 rows of 576 floats are over SERIAL: threads share them
@pytest.mark.parametrize("rows", [20, 700])
def test_a_row_does_not_see_its_batch(rows):
    x, order = rows_of(rows, 576), np.random.default_rng(5).permutation(rows)
    found = prints(x)
    assert_same_bits(prints(x[order]), found[order])
    assert_same_bits(np.concatenate([prints(row[None]) for row in x]), found)


def test_thread_count_does_not_move_a_bit(monkeypatch):
    x = rows_of(33, 576)
    serial = prints(x)
    monkeypatch.setattr(module, "SERIAL", 0)
    for threads in (1, 2, 3, 64):
        monkeypatch.setattr(module, "get_num_threads", lambda threads=threads: threads)
        assert_same_bits(prints(x), serial)


@pytest.mark.parametrize("rows", [6, 700])
def test_rows_at_a_stride_are_rows(rows):
    x = rows_of(rows, 1000)
    for part in (x[:, 100:677], x[::-1, :576], x[::2, 3:4]):
        assert_same_bits(prints(part), prints(part.copy()))


def test_rows_may_begin_at_any_byte():
    x = rows_of(4, 7, np.uint16)
    assert_same_bits(prints(x[:, 1:]), reference(x[:, 1:], "bfloat16"))


def test_equal_bytes_of_another_dtype_or_width_differ():
    x = np.zeros((1, 8), np.int64)
    wider = np.zeros((1, 16), np.int64)
    found = [prints(a)[0] for a in (x, x.view(np.float32), x.view(np.uint16), wider, wider.view(np.float32))]
    assert len(set(found)) == len(found)


def test_a_zero_at_the_end_is_not_padding():
    x = np.ones((1, 3), np.uint16)
    assert prints(x)[0] != prints(np.pad(x, ((0, 0), (0, 1))))[0]


def test_zero_is_kept_for_not_recorded():
    # the one word whose mix, and so the sum, is 0
    word = np.uint64(module.salt(4, 1)) ^ (~module.GAMMA + np.uint64(1))
    x = np.array([[word]], np.uint64).view(np.int64)
    assert prints(x)[0] == module.STANDS_FOR_ZERO != module.NOT_RECORDED
    assert_same_bits(prints(x), reference(x, "int64"))


def test_signed_zero_and_nan_are_their_bits():
    x = np.array([[0.0], [-0.0], [np.nan], [-np.nan]], np.float32)
    assert len(np.unique(prints(x))) == 4


def test_structures_are_their_words():
    kind = np.dtype([("token", np.int64), ("logprob", np.float32), ("margin", np.float32)])
    x = np.zeros(3, kind)
    x["token"], x["margin"] = [5, 6, 7], 0.25
    assert_same_bits(prints(x), prints(x.view(np.int64).reshape(3, 2)))


def test_no_rows():
    x = np.empty((0, 576), np.float32)
    assert_same_bits(prints(x), reference(x, "float32"))
    assert prints(np.empty(0, "i8,i8")).shape == (0,)


@pytest.mark.parametrize(
    ("x", "out"),
    [
        pytest.param(np.zeros((2, 4)), np.zeros(2, np.uint64), id="float64"),
        pytest.param(np.zeros(4, np.float32), np.zeros(4, np.uint64), id="a vector"),
        pytest.param(np.zeros((2, 4), np.float32), np.zeros(3, np.uint64), id="too many fingerprints"),
        pytest.param(np.zeros((2, 4), np.float32), np.zeros(2, np.int64), id="signed fingerprints"),
        pytest.param(
            np.zeros((2, 4), np.float32), np.zeros(4, np.uint64)[::2], id="fingerprints at a stride"
        ),
        pytest.param(np.zeros((2, 8), np.float32)[:, ::2], np.zeros(2, np.uint64), id="elements at a stride"),
        pytest.param(np.zeros(2, "i4,i4,i4"), np.zeros(2, np.uint64), id="structures of half words"),
    ],
)
def test_rejects(x, out):
    with pytest.raises(ValueError, match=r"^fingerprint: "):
        fingerprint(x, out)
