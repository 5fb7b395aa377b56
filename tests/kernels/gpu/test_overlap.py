"""A kernel that starts before the one ahead of it has ended sees all that it wrote."""

import numpy as np

from detrec.kernels.gpu.overlap import can_overlap, let_next_start, wait_for_previous
from detrec.kernels.launch import INTERPRETED, launch, tl, triton
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, fresh, host

PROGRAMS, WIDTH = 64, 32
# even, so that the last kernel writes where the first one read
TURNS = 4 if INTERPRETED else 400


@triton.jit
def _pass_on_kernel(from_ptr, to_ptr, WIDTH: tl.constexpr, OVERLAPS: tl.constexpr):
    """What the next program was given, and 1 more."""
    program, lane = tl.program_id(0), tl.arange(0, WIDTH)
    let_next_start(OVERLAPS)
    wait_for_previous(OVERLAPS)
    given = tl.load(from_ptr + (program + 1) % tl.num_programs(0) * WIDTH + lane)
    tl.store(to_ptr + program * WIDTH + lane, given + 1)


def test_a_kernel_sees_all_that_the_one_before_it_wrote():
    start = np.random.default_rng(0).integers(0, 1 << 20, (PROGRAMS, WIDTH)).astype(np.int32)
    one, other = device(start), fresh(start.shape, "int32")
    overlaps = can_overlap()
    for _ in range(TURNS):
        launch(
            _pass_on_kernel, (PROGRAMS,), one, other, WIDTH=WIDTH, OVERLAPS=overlaps, num_warps=1,
            overlaps=overlaps,
        )  # fmt: skip
        one, other = other, one
    assert_same_bits(host(one), np.roll(start, -TURNS, axis=0) + TURNS)
