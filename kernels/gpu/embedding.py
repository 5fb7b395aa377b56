"""Rows of the embedding table by token id: copied, so there is nothing to round."""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.rows import gather

KERNEL = "gpu.embedding gather"
"""Names the kernel and all of its configuration that could move a bit."""


def embedding(tokens: DeviceArray, table: DeviceArray, out: DeviceArray) -> DeviceArray:
    """out[r] = table[tokens[r]]; gives `out`.

    tokens int64 [R]; table [N, K], contiguous; out [R, K] of the table's dtype, rows contiguous. A token that
    the table lacks reads nothing and gives zeros: ids are checked on the host, where they come from.
    """
    if not table.is_contiguous:
        raise ValueError(
            f"embedding: table has shape {list(table.shape)} and strides {list(table.strides)}, "
            "expected contiguous [N, K]"
        )
    return gather("embedding", "table", table, tokens, out)
