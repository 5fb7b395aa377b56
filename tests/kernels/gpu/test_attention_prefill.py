"""Tiles: neither their height nor how a program is shaped moves a bit."""

import pytest

from detrec.kernels.gpu import attention as planning
from detrec.kernels.gpu import attention_prefill as module
from tests.bits import assert_same_bits
from tests.kernels.gpu.paged import attend, close, paged


def test_a_slice_of_many_tiles_after_a_prefix(monkeypatch):
    memory = paged([300, 170], "bfloat16", 14, 2, 16)
    monkeypatch.setattr(module, "PARTITION", 128)
    rows = [*((0, p) for p in range(240, 300)), *((1, p) for p in range(170))]
    assert close(attend(memory, rows), memory, rows)


@pytest.fixture
def any_gpu(monkeypatch):
    """Not the kernel for a Hopper."""
    monkeypatch.setattr(module, "_hopper_tiles", lambda: None)


@pytest.mark.gpu
@pytest.mark.usefixtures("any_gpu")
@pytest.mark.parametrize("shape", [(128, 1), (128, 2), (64, 2), (64, 3)])
def test_how_a_program_is_shaped_does_not_show(shape, monkeypatch):
    memory = paged([1500], "bfloat16", 14, 2, 128)
    expected = attend(memory, memory.every_row())
    monkeypatch.setattr(module, "_shape", lambda head_dim: shape)
    assert_same_bits(attend(memory, memory.every_row()), expected)


@pytest.mark.gpu
@pytest.mark.usefixtures("any_gpu")
def test_how_high_a_tile_is_does_not_show(monkeypatch):
    memory = paged([1500], "bfloat16", 14, 2, 128)
    expected = attend(memory, memory.every_row())
    monkeypatch.setattr(planning, "TILE_LINES", 70)
    assert_same_bits(attend(memory, memory.every_row()), expected)
