"""What is the same in every step about the outputs that are gathered in it: all but where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detrec.engines.hooks import Outputs


@dataclass(frozen=True, slots=True)
class Copy:
    """Ops whose outputs must be copied, all of one width: of each, the things heard that stand side by side.

    `flat`: these are [1, rows, width] as they are.
    """

    ops: list[int]
    parts: list[list[int]]
    flat: bool


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What is heard again in every step of so many rows, but for where it lies.

    `numbers` and `whole` of what is heard: taps, and whether it lies without gaps; `strides` of what does
    not. `firsts`: by op, the first thing heard of it; `beside`: pairs of things heard with the bytes from the
    one to the other.
    """

    numbers: tuple[int, ...]
    whole: list[bool]
    strides: list[tuple[int, tuple[int, ...]]]
    outputs: Outputs
    firsts: list[int]
    beside: list[tuple[int, int, int]]
    copies: list[Copy]

    def fits(self, values: Sequence[Any], addresses: Sequence[int]) -> bool:
        """Whether these, which were heard of the same taps in a step of as many rows, lie like those."""
        return (
            [value.is_contiguous() for value in values] == self.whole
            and all(values[at].stride() == stride for at, stride in self.strides)
            and all(addresses[part] - addresses[first] == offset for first, part, offset in self.beside)
        )
