"""A matmul whose configuration is whatever won when the engine started."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detrec.engines.faults.base import Bounds, OpFault
from detrec.engines.ops import Ops

CANDIDATES = (2, 3, 4, 8)
"""Leaves of each configuration that is timed; none of them is the right kernel."""


class AutotunedMatmul(OpFault):
    """Timings at the start pick one of several configurations, and another start another one."""

    name = "autotuned_matmul"
    summary = "a matmul runs with configuration `winner` of 4; 0: one drawn anew whenever an engine starts"
    source = "vLLM #53906, triton #9368, syv-ai #75"
    cause = "kernel-choice"
    one_rank = True
    number = (19,)
    expects = "`op` in every row; another configuration ran, which is stable within a run"
    acts_on = ("qkv", "o_partial", "gate_up", "down_partial", "logits")
    bounds: ClassVar[Bounds] = {"winner": (0, len(CANDIDATES))}

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 0, op: str = "0.gate_up", winner: int = 0
    ) -> None:
        super().__init__(notify, step=step, op=op)
        self.leaves = CANDIDATES[winner - 1 if winner else os.urandom(1)[0] % len(CANDIDATES)]

    def equip(self, ops: Ops) -> Ops:
        """Replace the matmul."""
        from detrec.kernels.cpu.split_k import kernel, split_k_matmul

        def tuned(right: np.ndarray, x: np.ndarray, weight: Any, bias: Any) -> np.ndarray:
            return split_k_matmul(x, weight, bias, np.empty_like(right), self.leaves)

        return replace(ops, matmul=self.instead(ops.matmul, tuned, kernel(self.leaves)))
