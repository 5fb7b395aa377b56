"""Which columns of a long line a screen shows, and how many of them share one character.

Pure: numbers in, a new Viewport out.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

Columns = TypeVar("Columns", int, np.ndarray)
"""A column, or an array of them."""

WIDEST = 3
"""Characters of a column when it is looked at as closely as can be."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """`width` characters over `total` columns, from column `start` on.

    `zoom` > 0: a column has `zoom + 1` characters; 0: one; below, 2 ** -zoom columns share one, and `start`
    is a multiple of that. At the outermost zoom everything is seen: all characters are used, and some stand
    for a column more than others.
    """

    total: int = 0
    width: int = 1
    start: int = 0
    zoom: int = 0

    @property
    def outermost(self) -> int:
        """The zoom at which everything is seen, 0 where it fits as it is."""
        zoom = 0
        while self.total > self.width << -zoom:
            zoom -= 1
        return zoom

    @property
    def whole(self) -> bool:
        """Is everything squeezed into the screen?"""
        return self.zoom < 0 and self.zoom <= self.outermost

    @property
    def per(self) -> int:
        """Columns that share a character, about so many where `whole`."""
        return 1 << max(-self.zoom, 0)

    @property
    def wide(self) -> int:
        """Characters of a column."""
        return max(self.zoom, 0) + 1

    @property
    def bins(self) -> int:
        """How many places for a state there are."""
        return max(self.width // self.wide, 1)

    @property
    def shown(self) -> int:
        """How many columns fit."""
        return self.total if self.whole else self.bins * self.per

    @property
    def everything(self) -> bool:
        """Is all of it in sight?"""
        return self.shown >= self.total

    @property
    def stop(self) -> int:
        """The first column after those that are shown."""
        return min(self.start + self.shown, self.total)

    @property
    def scale(self) -> int:
        """What two viewports share whose places for a state are alike: 0 for the whole, else `per`."""
        return 0 if self.whole else self.per

    def bin_of(self, column: Columns) -> Columns:
        """The place of a column, which may be outside; of each of an array of them."""
        if self.whole:
            return ((column + 1) * self.width - 1) // self.total
        return (column - self.start) // self.per

    def x_of(self, column: Columns) -> Columns:
        """Where a column begins, or each of an array of them."""
        return self.bin_of(column) * self.wide

    def column_at(self, x: int) -> int | None:
        """The first column under character `x`; None where there is none."""
        if not 0 <= x < self.width or not self.total:
            return None
        at = x * self.total // self.width if self.whole else self.start + x // self.wide * self.per
        return at if at < self.total else None

    def sized(self, total: int, width: int) -> "Viewport":
        """The same place in a line or on a screen of another size; what was seen whole stays so."""
        fits = self.whole or (self.start == 0 and self.total <= self.shown)
        new = replace(self, total=total, width=max(width, 1))
        return new.fitted() if fits else new._settled()

    def zoomed(self, by: int, around: int) -> "Viewport":
        """Closer or further, with the column `around` where it was."""
        zoom = min(max(self.zoom + by, self.outermost), WIDEST - 1)
        x = self.x_of(around)
        near = replace(self, zoom=zoom)
        return replace(near, start=around - x // near.wide * near.per)._settled().showing(around)

    def fitted(self) -> "Viewport":
        """As close as it gets with everything in sight."""
        zoom = self.outermost
        if not zoom:
            zoom = min(self.width // max(self.total, 1), WIDEST) - 1
        return replace(self, zoom=zoom, start=0)

    def panned(self, columns: int) -> "Viewport":
        """Further along."""
        return replace(self, start=self.start + columns)._settled()

    def showing(self, column: int) -> "Viewport":
        """Moved by as little as brings the column in sight."""
        if column < self.start:
            return replace(self, start=column)._settled()
        if column >= self.start + self.shown:
            return replace(self, start=column // self.per * self.per - self.shown + self.per)._settled()
        return self

    def _settled(self) -> "Viewport":
        if self.whole:
            return replace(self, start=0)
        last = -(-max(self.total - self.shown, 0) // self.per) * self.per
        return replace(self, start=min(max(self.start, 0), last) // self.per * self.per)
