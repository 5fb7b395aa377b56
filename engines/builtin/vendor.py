"""`deterministic: false`: the framework's own matmul, for contrast.

Its kernels choose their order of additions by the shape of the batch, so a row's bits depend on the rows
around it. Everything else is as in the deterministic engine.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from detrec.engines.ops import Ops, named
from detrec.kernels import arrays
from detrec.kernels.cpu.packed import PackedWeight


def vendor_ops(ops: Ops, framework: str) -> Ops:
    """`ops` with `matmul` done by the framework's library."""
    # with the weight itself, so that its id is not given to another one while it stands here
    unpacked: dict[int, tuple[PackedWeight, Any]] = {}

    @named(f"{framework}.matmul")
    def matmul(name: str, x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None) -> np.ndarray:
        if id(weight) not in unpacked:
            plain = np.ascontiguousarray(weight.unpacked().T)
            unpacked[id(weight)] = weight, arrays.from_numpy(framework, plain)
        product = arrays.from_numpy(framework, np.ascontiguousarray(x)) @ unpacked[id(weight)][1]
        if bias is not None:
            product = product + arrays.from_numpy(framework, bias)
        return arrays.host_view(product)

    return replace(ops, matmul=matmul)
