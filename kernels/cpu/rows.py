"""Rows of a matrix as contiguous vectors, so that a loop over a slice of a wider matrix is vectorised too."""

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array


@intrinsic
def row_of(typingctx: Any, x: Any, index: Any) -> Any:
    """Row `index` of a matrix whose rows are contiguous, at any stride: a view, valid while x lives."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        matrix = make_array(x)(context, builder, args[0])
        vector = make_array(signature.return_type)(context, builder)
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(x.dtype)))
        width = builder.extract_value(matrix.shape, 1)
        stride = builder.extract_value(matrix.strides, 0)
        data = cgutils.pointer_add(builder, matrix.data, builder.mul(stride, args[1]), matrix.data.type)
        populate_array(vector, data=data, shape=[width], strides=[size], itemsize=size, meminfo=None)
        return vector._getvalue()

    if not isinstance(x, types.Array) or x.ndim != 2:
        raise TypingError(f"row_of: expected a matrix, got {x}")
    return types.Array(x.dtype, 1, "C")(x, types.intp), codegen


def expect_rows(kernel: str, name: str, x: np.ndarray) -> None:
    """Raise ValueError unless x is a matrix with contiguous rows."""
    if x.ndim != 2:
        raise ValueError(f"{kernel}: {name} has shape {list(x.shape)}, expected [rows, columns]")
    if x.strides[1] != x.itemsize and x.shape[1] > 1 and x.shape[0]:
        raise ValueError(f"{kernel}: the rows of {name} are not contiguous: strides {x.strides}")
