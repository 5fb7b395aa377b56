"""RMS norms whose order of additions follows the number of rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from detrec.engines.faults.base import Bounds, OpFault
from detrec.engines.ops import Ops


class NormFault(OpFault, ABC):
    """From `step` on, the norm `op` is taken by as many lanes as `lanes` says."""

    cause = "reduction-order"
    one_rank = True
    acts_on = ("attn_norm", "mlp_norm", "final_norm")
    expects = "`op`, with the inputs of both runs equal; the row in other company has other bits"

    def __init__(self, notify: Callable[[str], None], *, step: int, op: str) -> None:
        super().__init__(notify, step=step, op=op)
        self._kernel = ""

    @abstractmethod
    def lanes(self, rows: int) -> int:
        """How many lanes add the squares of each of `rows` rows; 0: as many as there should be."""

    def equip(self, ops: Ops) -> Ops:
        """Replace the norm."""
        from detrec.kernels.cpu.rms_norm_lanes import kernel, rms_norm_by_lanes

        def by_lanes(right: np.ndarray, x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray | None:
            lanes = self.lanes(len(x))
            if not lanes:
                return None
            self._kernel = kernel(lanes)
            return rms_norm_by_lanes(x, weight, eps, np.empty_like(right), lanes)

        return replace(ops, rms_norm=self.instead(ops.rms_norm, by_lanes, lambda: self._kernel))


class NormRowsPerProgram(NormFault):
    """A program takes several rows when there are more rows than programs, with fewer lanes for each."""

    name = "norm_rows_per_program"
    summary = "a norm of more than `programs` rows gives a program several rows, and each of them fewer lanes"
    source = "vLLM #57280"
    number = (21,)
    bounds: ClassVar[Bounds] = {"programs": (1, 1 << 30)}

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 2, op: str = "0.attn_norm", programs: int = 1
    ) -> None:
        super().__init__(notify, step=step, op=op)
        self.programs = programs

    def lanes(self, rows: int) -> int:
        """4 lanes for two rows a program, 2 for four, one chain for more."""
        each = -(-rows // self.programs)
        return 0 if each <= 1 else max(1, 8 >> (each - 1).bit_length())


class NormPadding(NormFault):
    """Rows are padded, and the padding is part of what chooses the configuration."""

    name = "norm_padding"
    summary = "a norm whose rows are padded to a multiple of `multiple` has lanes by how many were missing"
    source = "FastDeploy #6749"
    number = (31,)
    bounds: ClassVar[Bounds] = {"multiple": (2, 1 << 30)}

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 2, op: str = "0.attn_norm", multiple: int = 4
    ) -> None:
        super().__init__(notify, step=step, op=op)
        self.multiple = multiple

    def lanes(self, rows: int) -> int:
        """1, 2 or 4 lanes for 1, 2 or 3 rows missing, and so on in turn."""
        missing = -rows % self.multiple
        return 1 << (missing - 1) % 3 if missing else 0
