"""Memory that does not keep what was written to it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from detrec.engines.faults.base import Fault, FaultyOp
from detrec.engines.ops import Ops
from detrec.errors import ConfigError


class BitFlip(Fault):
    """One bit of one op's output is flipped once."""

    name = "bitflip"
    summary = "bit `bit` of element `element` of row `row` of an op's output is flipped in step `step`"
    source = "silent data corruption"
    cause = "corruption"
    one_rank = True
    expects = "`op` in row `row` of step `step`: one element, one bit"

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 4,
        op: str = "1.attn",
        row: int = 0,
        element: int = 3,
        bit: int = 9,
    ) -> None:
        super().__init__(notify, step=step)
        self.op, self.row, self.element, self.bit = op, row, element, bit

    def equip(self, ops: Ops) -> Ops:
        """Flip the bit in whichever op carries the name."""
        return Ops(
            **{field: FaultyOp(getattr(ops, field), self._flip, "bit flipped") for field in Ops.__slots__}
        )

    def _flip(self, name: str, right: np.ndarray, *args: Any) -> np.ndarray | None:
        if name != self.op or self._now.index != self.from_step or self.sighting:
            return None
        rows = self.sample_rows() if len(right) != self._now.rows else self.rows()
        # a copy: at one rank an op may hand on its input, and that one was right
        kept, right = right, right.copy()
        # a sample is a record of 64-bit words: token, seed, counter, and logprob with margin
        records = right.dtype.names is not None
        words = right.view(np.uint64 if records else f"u{right.dtype.itemsize}").reshape(len(right), -1)
        self._check(words)
        words[self.row, self.element] ^= words.dtype.type(1 << self.bit)
        if records and not 0 <= (token := int(right["token"][self.row])) < args[0].shape[1]:
            raise ConfigError(
                f"--fault bitflip: bit {self.bit} makes the token {token}, which is not in the vocabulary"
            )
        if name.endswith(".kv_write"):
            # the output is what was read back: the flip belongs into the cache
            cache, slots = args[2], args[3]
            half = right.shape[1] // 2
            flat = cache.reshape(-1, 2, half)
            flat[slots[self.row], self.element // half, self.element % half] = right[self.row, self.element]
        self.compare(name, kept, right, rows)
        return right

    def _check(self, words: np.ndarray) -> None:
        for what, value, size in (
            ("row", self.row, words.shape[0]),
            ("element", self.element, words.shape[1]),
            ("bit", self.bit, 8 * words.dtype.itemsize),
        ):
            if not 0 <= value < size:
                raise ConfigError(
                    f"--fault bitflip: {what} {value}: {self.op} has {size} there in step {self.from_step}"
                )
