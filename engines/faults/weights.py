"""Weights that do not keep what was loaded."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detrec.engines.faults.base import Fault, FaultyOp
from detrec.engines.ops import Ops
from detrec.errors import ConfigError
from detrec.kernels.cpu.packed import PANEL, PackedWeight


class WeightBitFlip(Fault):
    """One bit of a stored weight turns, and stays turned."""

    name = "weight_bitflip"
    summary = (
        "bit `bit` of element `element` of the weight of an op is flipped before step `step`, and stays so"
    )
    source = "silent data corruption"
    cause = "corruption"
    one_rank = True
    together = ("embedding",)
    expects = (
        "`op` at or after step `step`, in the first row that the weight reaches; the tensor and the element"
    )
    acts_on = (
        *("embedding", "attn_norm", "qkv", "q_norm", "k_norm", "o_partial", "mlp_norm", "gate_up"),
        *("down_partial", "final_norm", "logits"),
    )

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 3,
        op: str = "1.gate_up",
        element: int = 1000,
        bit: int = 10,
    ) -> None:
        super().__init__(notify, step=step)
        self.op, self.element, self.bit = op, element, bit
        self._weight: Any = None

    def equip(self, ops: Ops) -> Ops:
        """Flip before the op runs; what reads the weight then computes with it."""
        from detrec.kernels.cpu.embedding import embedding
        from detrec.kernels.cpu.matmul import matmul
        from detrec.kernels.cpu.rms_norm import rms_norm

        return replace(
            ops,
            embedding=FaultyOp(ops.embedding, self._with(embedding)),
            matmul=FaultyOp(ops.matmul, self._with(matmul)),
            rms_norm=FaultyOp(ops.rms_norm, self._with(rms_norm)),
        )

    def _with(self, kernel: Callable[..., np.ndarray]) -> Callable[..., np.ndarray | None]:
        def flipped(
            name: str, output: np.ndarray, x: np.ndarray, weight: Any, *args: Any
        ) -> np.ndarray | None:
            # once it was seen, what reads the weight computes with the turned bit by itself
            if not self.armed or self.sighting:
                return None
            right, turned = output, self._weight is not None
            if name == self.op and not turned:
                self._weight = weight
            # tied weights: another op may be the first to show what this one was turned for
            if weight is not self._weight:
                return None
            if turned:
                self._flip(weight)
                right = kernel(x, weight, *args, np.empty_like(output))
            self._flip(weight)
            wrong = kernel(x, weight, *args, np.empty_like(output))
            self.compare(name, right, wrong, self.rows_of(name))
            return wrong

        return flipped

    def _flip(self, weight: Any) -> None:
        place: tuple[int, ...] = (self.element,)
        stored = weight
        if isinstance(weight, PackedWeight):
            stored = weight.panels
            row, k = divmod(self.element, weight.shape[1])
            place = row // PANEL, k, row % PANEL
        words = stored.view(f"u{stored.dtype.itemsize}")
        for what, value, size in (
            ("element", self.element, math.prod(weight.shape)),
            ("bit", self.bit, 8 * words.dtype.itemsize),
        ):
            if value >= size:
                raise ConfigError(
                    f"--fault weight_bitflip: {what} {value}: the weight of {self.op} has {size}"
                )
        words[place] ^= words.dtype.type(1 << self.bit)
