"""A matmul whose order of additions follows the size of the batch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detrec.engines.faults.base import Bounds, Fault, FaultyOp
from detrec.engines.ops import Ops


class SplitKByBatch(Fault):
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
        super().__init__(notify, step=step)
        self.op, self.max_rows, self.splits = op, rows, splits

    def equip(self, ops: Ops) -> Ops:
        """Replace the matmul."""
        from detrec.kernels.cpu.split_k import kernel, split_k_matmul

        def split(name: str, right: np.ndarray, x: np.ndarray, weight: Any, bias: Any) -> np.ndarray | None:
            if not self.armed or name != self.op or len(x) >= self.max_rows:
                return None
            wrong = np.empty_like(right)
            split_k_matmul(x, weight, bias, wrong, self.splits)
            self.compare(name, right, wrong, self.sample_rows() if name == "logits" else self.rows())
            return wrong

        return replace(ops, matmul=FaultyOp(ops.matmul, split, kernel(self.splits)))
