"""float32 rounded to nearest even: one rounding an element, so a row cannot see another."""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.rounded nearest even"
"""Names the kernel and all of its configuration that could move a bit."""

BLOCK = 1024
NUM_WARPS = 4


@triton.jit
def _rounded_kernel(x_ptr, out_ptr, n_elements, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < n_elements
    tl.store(out_ptr + place, narrow(tl.load(x_ptr + place, mask=mask), out_ptr.dtype.element_ty), mask=mask)


def rounded(x: DeviceArray, out: DeviceArray) -> DeviceArray:
    """x float32 as the dtype of out, float32, bfloat16 or float16, of one shape, contiguous; gives `out`."""
    if x.shape != out.shape or x.dtype != "float32" or not (x.is_contiguous and out.is_contiguous):
        raise ValueError(
            f"rounded: x is {x.dtype} {list(x.shape)} with strides {list(x.strides)}, out {list(out.shape)} "
            f"with strides {list(out.strides)}, expected float32 and contiguous arrays of one shape"
        )
    launch(_rounded_kernel, (cdiv(x.count, BLOCK),), x, out, x.count, BLOCK=BLOCK, num_warps=NUM_WARPS)
    return out
