"""Rows of the embedding table by token id: copied, so there is nothing to round.

Of a table that is cut over ranks each gives its own rows and -0.0 for the others': -0.0 + x is x, to the bit.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.rows import gather

KERNEL = "gpu.embedding gather"
"""Names the kernel and all of its configuration that could move a bit."""


def embedding(tokens: DeviceArray, table: DeviceArray, out: DeviceArray) -> DeviceArray:
    """out[r] = table[tokens[r]]; gives `out`.

    tokens int64 [R]; table [N, K], contiguous; out [R, K] of the table's dtype, rows contiguous. A token that
    the table lacks reads nothing and gives zeros: ids are checked on the host, where they come from.
    """
    _expect_table(table)
    return gather("embedding", "table", table, tokens, out)


def embedding_part(tokens: DeviceArray, table: DeviceArray, first: int, out: DeviceArray) -> DeviceArray:
    """`embedding` of a table of which `table` has rows [first, first + N); -0.0 for all other tokens.

    The sum over the ranks that have the parts, in any order, is the row of the whole table.
    """
    _expect_table(table)
    return gather("embedding", "table", table, tokens, out, first, -0.0)


def _expect_table(table: DeviceArray) -> None:
    if not table.is_contiguous:
        raise ValueError(
            f"embedding: table has shape {list(table.shape)} and strides {list(table.strides)}, "
            "expected contiguous [N, K]"
        )
