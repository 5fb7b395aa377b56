"""Workspace: aligned memory that lives as long as it promises."""

import numpy as np
import pytest

from detrec.kernels.workspace import ALIGNMENT, Workspace

pytest.importorskip("paddle")


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int64])
def test_gives_aligned_arrays_of_the_asked_shape_and_dtype(dtype):
    space = Workspace("paddle", 4096)
    for _ in range(20):
        array = space.empty((3, 5), dtype)
        assert array.shape == (3, 5)
        assert array.dtype == dtype
        assert array.ctypes.data % ALIGNMENT == 0


def test_an_array_lives_until_nbytes_were_taken_after_it():
    space = Workspace("paddle", 4096)
    rng = np.random.default_rng(11)
    alive: list[tuple[np.ndarray, int]] = []
    taken = 0
    for mark in range(2000):
        size = int(rng.integers(1, 4097))
        array = space.empty((size,), np.uint8)
        taken += size
        array[:] = mark % 251
        alive = [(old, made) for old, made in alive if taken - made <= 4096]
        assert not any(np.shares_memory(old, array) for old, _ in alive)
        alive.append((array, taken))


def test_the_memory_is_the_frameworks_and_goes_round():
    space = Workspace("paddle", 4096)
    arrays = [space.empty((1024,)) for _ in range(4)]
    assert np.shares_memory(arrays[0], arrays[3])
    assert arrays[0].ctypes.data >= space.tensor.data_ptr()


def test_a_new_beginning_grows_and_leaves_what_was_given():
    space = Workspace("paddle", 256)
    array = space.empty((64,))
    array[:] = 7
    space.begin(8192)
    assert space.nbytes == 8192
    space.empty((2048,))[:] = 1
    assert (array == 7).all()


def test_a_small_beginning_stays_in_little_memory():
    space = Workspace("paddle", 1 << 20)
    places = set()
    for _ in range(5):
        space.begin(256)
        places |= {space.empty((64,)).ctypes.data for _ in range(7)}
    assert max(places) - min(places) < 3 * 256


def test_empty_shapes_take_nothing():
    assert Workspace("paddle", 64).empty((0, 5)).shape == (0, 5)


def test_rejects_an_array_larger_than_the_promise():
    with pytest.raises(ValueError, match="promises 4096"):
        Workspace("paddle", 4096).empty((1025,))


def test_rejects_a_workspace_of_no_bytes():
    with pytest.raises(ValueError, match="positive"):
        Workspace("paddle", 0)
