"""A matmul whose order of additions follows the size of the batch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detrec.engines.faults.base import Bounds, OpFault
from detrec.engines.ops import Ops


class SplitKByBatch(OpFault):
    """One matmul cuts K into leaves when the batch is small."""

    name = "split_k_by_batch"
    summary = "a matmul splits K into leaves when the step has fewer than `rows` rows"
    source = "kekzl/imp #1332"
    cause = "reduction-order"
    one_rank = True
    number = (6,)
    expects = "`op`, never attention; the row in a batch of `rows` rows has other bits"
    bounds: ClassVar[Bounds] = {"rows": (1, (1 << 31) - 1), "splits": (2, 1024)}
    acts_on = ("qkv", "o_partial", "gate_up", "down_partial", "logits")

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 2,
        op: str = "1.qkv",
        rows: int = 64,
        splits: int = 4,
    ) -> None:
        super().__init__(notify, step=step, op=op)
        self.max_rows, self.splits = rows, splits

    def equip(self, ops: Ops) -> Ops:
        """Replace the matmul."""
        from detrec.kernels.cpu.split_k import kernel, split_k_matmul

        def split(right: np.ndarray, x: np.ndarray, weight: Any, bias: Any) -> np.ndarray | None:
            if len(x) >= self.max_rows:
                return None
            return split_k_matmul(x, weight, bias, np.empty_like(right), self.splits)

        return replace(ops, matmul=self.instead(ops.matmul, split, kernel(self.splits)))
