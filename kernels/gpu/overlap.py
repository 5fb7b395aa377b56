"""Programmatic dependent launch: a kernel's programs start while the kernel before it still runs.

Invariant: every program of one that overlaps waits, also one that has nothing to do, so that its end still
means that all before it have ended. What it reads before waiting, no kernel writes that may still run: those
since the last that waited before it let the next start.
"""

import functools

from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from detrec.kernels import cuda
from detrec.kernels.launch import INTERPRETED, tl, triton

HOPPER = 90
# the first CUDA that captures such a launch in a graph
DRIVER = 12030


@functools.cache
def can_overlap() -> bool:
    """Whether the GPU starts kernels before others have ended, in captured graphs too."""
    if INTERPRETED:
        return False
    target = triton.runtime.driver.active.get_current_target()
    return target.backend == "cuda" and int(target.arch) >= HOPPER and cuda.driver_version() >= DRIVER


@triton.jit
def wait_for_previous(OVERLAPS: tl.constexpr):
    """Wait until all kernels before this one have ended and what they wrote can be read."""
    if OVERLAPS:
        gdc_wait()


@triton.jit
def let_next_start(OVERLAPS: tl.constexpr):
    """The next kernel may start, if it overlaps, once every program has said this or ended."""
    if OVERLAPS:
        gdc_launch_dependents()
