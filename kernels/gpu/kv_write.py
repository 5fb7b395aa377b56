"""Keys and values into the paged cache, and what was stored: every slot by itself."""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.gpu.rows import FLOATS, expect_rows, expect_vector
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.kv_write copy"
"""Names the kernel and all of its configuration that could move a bit."""

BLOCK = 1024
NUM_WARPS = 4


@triton.jit
def _kv_write_kernel(
    k_ptr, v_ptr, cache_ptr, slots_ptr, out_ptr,
    width, n_slots, k_stride, v_stride, out_stride, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < width
    slot = tl.load(slots_ptr + row)
    there = cols < tl.where((slot >= 0) & (slot < n_slots), width, 0)
    # blocks follow each other without gaps: a slot's keys and then its values are 2 * width elements
    cache_ptr += slot * 2 * width
    out_ptr += row * out_stride
    keys = tl.load(k_ptr + row * k_stride + cols, mask=there, other=0.0).to(tl.float32)
    stored = narrow(keys, cache_ptr.dtype.element_ty)
    tl.store(cache_ptr + cols, stored, mask=there)
    tl.store(out_ptr + cols, narrow(stored.to(tl.float32), out_ptr.dtype.element_ty), mask=mask)
    values = tl.load(v_ptr + row * v_stride + cols, mask=there, other=0.0).to(tl.float32)
    stored = narrow(values, cache_ptr.dtype.element_ty)
    tl.store(cache_ptr + width + cols, stored, mask=there)
    tl.store(out_ptr + width + cols, narrow(stored.to(tl.float32), out_ptr.dtype.element_ty), mask=mask)


def kv_write(
    k: DeviceArray, v: DeviceArray, cache: DeviceArray, slots: DeviceArray, out: DeviceArray
) -> DeviceArray:
    """Store k and v at `slots` of the cache; gives `out`, the keys and then the values as they were stored.

    k and v [R, KV], rows contiguous and at any stride; cache [blocks, block_size, 2, KV], contiguous; slots
    int64 [R], block * block_size + offset, each at most once; out [R, 2*KV]. Each of any float dtype. A row
    whose slot the cache lacks (-1 marks padding) stores nothing, and its row of `out` is zero.
    """
    expect_rows("kv_write", k=k, v=v, out=out)
    if cache.ndim != 4 or cache.shape[2] != 2 or not cache.is_contiguous or cache.dtype not in FLOATS:
        raise ValueError(
            f"kv_write: cache is {cache.dtype} {list(cache.shape)} with strides {list(cache.strides)}, "
            "expected contiguous floats [blocks, block_size, 2, KV]"
        )
    rows, width = k.shape
    if v.shape != k.shape or cache.shape[3] != width or out.shape != (rows, 2 * width):
        raise ValueError(
            f"kv_write: k {list(k.shape)}, v {list(v.shape)}, cache {list(cache.shape)} and out "
            f"{list(out.shape)} do not fit, expected [R, KV], [R, KV], [blocks, block_size, 2, KV] and "
            "[R, 2*KV]"
        )
    expect_vector("kv_write", "slots", slots, "int64", rows)
    sizes = width, cache.shape[0] * cache.shape[1], k.strides[0], v.strides[0], out.strides[0]
    launch(
        _kv_write_kernel, (rows, cdiv(width, BLOCK)), k, v, cache, slots, out, *sizes,
        BLOCK=BLOCK, num_warps=NUM_WARPS,
    )  # fmt: skip
    return out
