"""What Gluon's kernels share that fetch tiles by TMA, in stages: none of it can move a bit."""

import functools

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from detrec.kernels.device_array import DeviceArray

# their names since Triton 3.7, and in 3.6
load = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
save = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global


@gluon.jit
def barriers(COUNT: gl.constexpr):
    """Of so many stages: that it is full, by who fetches, and empty, by both warpgroups that multiply."""
    full = gl.allocate_shared_memory(gl.int64, [COUNT, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [COUNT, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(COUNT):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=2)
    fence_async_shared()
    return full, empty


@gluon.jit
def after(stage, phase, STAGES: gl.constexpr):
    """The stage that comes next, and the phase of its barriers."""
    stage += 1
    if stage == STAGES:
        stage = 0
        phase ^= 1
    return stage, phase


@functools.lru_cache(maxsize=1 << 14)
def descriptor(
    address: int, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], block: tuple[int, ...]
):
    """What TMA reads or writes: kept, because to make one takes longer than to launch. It owns no memory."""
    layout = gl.NVMMASharedLayout.get_default_for(list(block), getattr(gl, dtype))
    return TensorDescriptor(
        DeviceArray(address, dtype, shape, strides), list(shape), list(strides), list(block), layout
    )


def leaves_of(array: DeviceArray, leaves: int, height: int, width: int):
    """A matrix as [leaves, rows, k of a leaf], so that what TMA reads past the end of a leaf is 0.0.

    A block is `height` rows by `width` k of one leaf.
    """
    depth = array.shape[1] // leaves
    shape, strides = (leaves, array.shape[0], depth), (depth, array.strides[0], 1)
    return descriptor(array.address, array.dtype, shape, strides, (1, height, width))
