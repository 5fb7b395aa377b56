"""Ops that compute something else: equal on paper, or nearly, and on every row of every step."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from detrec.engines.faults.base import Bounds, Fault, FaultyOp, OpFault
from detrec.engines.ops import Ops


class SiluByTanh(OpFault):
    """The gate is computed by another formula."""

    name = "silu_by_tanh"
    summary = "silu is computed by a hyperbolic tangent instead of an exponential"
    source = "a rewritten or fused activation"
    cause = "numerics"
    one_rank = True
    expects = "`op`, on equal inputs, by a kernel of the same name, whatever rows are in the batch"
    acts_on = ("act",)

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, op: str = "0.act") -> None:
        super().__init__(notify, step=step, op=op)

    def equip(self, ops: Ops) -> Ops:
        """Replace the gate."""
        from detrec.kernels.cpu.silu_tanh import silu_mul_by_tanh

        def by_tanh(right: np.ndarray, x: np.ndarray) -> np.ndarray:
            return silu_mul_by_tanh(x, np.empty_like(right))

        return replace(ops, silu_mul=self.instead(ops.silu_mul, by_tanh))


class WrongRopeBase(Fault):
    """Positions are rotated by angles of another base, as a checkpoint's configuration misread."""

    name = "wrong_rope_base"
    summary = "the base of the rotary embedding is `percent` percent larger, from layer `layer` on"
    source = "a configuration misread"
    cause = "numerics"
    expects = "rope_q of layer `layer`, in the first row past position 0, by a kernel of the same name"
    acts_on = ("rope_q", "rope_k")
    bounds: ClassVar[Bounds] = {"percent": (1, 10**6)}

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 0, layer: int = 0, percent: int = 1
    ) -> None:
        super().__init__(notify, step=step)
        self.layer, self.percent = layer, percent
        self._tables: tuple[np.ndarray, np.ndarray] | None = None

    def equip(self, ops: Ops) -> Ops:
        """Rotate by the other angles."""
        from detrec.kernels.cpu.rope import rope

        def rotated(
            name: str,
            right: np.ndarray,
            x: np.ndarray,
            positions: np.ndarray,
            cos: np.ndarray,
            sin: np.ndarray,
        ) -> np.ndarray | None:
            if not self.armed or int(name.partition(".")[0]) < self.layer:
                return None
            self._tables = self._tables or rebased(cos, sin, 1 + self.percent / 100)
            wrong = rope(x, positions, *self._tables, np.empty_like(right))
            self.compare(name, right, wrong, self.rows())
            return wrong

        return replace(ops, rope=FaultyOp(ops.rope, rotated))


def rebased(cos: np.ndarray, sin: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """The rope tables [P, D/2] of a base `ratio` times as large."""
    half = cos.shape[1]
    # an angle is at most one radian a position, so the row of position 1 holds all frequencies
    frequency = np.arctan2(sin[1:2], cos[1:2], dtype=np.float64)
    turn = np.arange(len(cos))[:, None] * frequency * (ratio ** -(np.arange(half) / half) - 1)
    c, s = cos.astype(np.float64), sin.astype(np.float64)
    # turned on from the right angle, so that what is not turned keeps its bits
    return (
        (c * np.cos(turn) - s * np.sin(turn)).astype(np.float32),
        (s * np.cos(turn) + c * np.sin(turn)).astype(np.float32),
    )
