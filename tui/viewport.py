"""Which columns of a long line a screen shows, and how many of them share one character.

Pure: numbers in, a new Viewport out.
"""

from dataclasses import dataclass, replace

WIDEST = 3
"""Characters of a column when it is looked at as closely as can be."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """`width` characters over `total` columns, from column `start` on.

    `zoom` > 0: a column has `zoom + 1` characters; otherwise 2 ** -zoom columns share one, and `start` is a
    multiple of that.
    """

    total: int = 0
    width: int = 1
    start: int = 0
    zoom: int = 0

    @property
    def per(self) -> int:
        """Columns that share a character."""
        return 1 << max(-self.zoom, 0)

    @property
    def wide(self) -> int:
        """Characters of a column."""
        return max(self.zoom, 0) + 1

    @property
    def shown(self) -> int:
        """How many columns fit."""
        return max(self.width // self.wide, 1) * self.per

    @property
    def stop(self) -> int:
        """The first column after those that are shown."""
        return min(self.start + self.shown, self.total)

    @property
    def widest_out(self) -> int:
        """The zoom at which everything is seen."""
        zoom = 0
        while self.width > 0 and self.total > self.width << -zoom:
            zoom -= 1
        return zoom

    def column_at(self, x: int) -> int | None:
        """The first column under character `x`; None where there is none."""
        column = self.start + x // self.wide * self.per
        return column if 0 <= x < self.width and column < self.total else None

    def x_of(self, column: int) -> int:
        """Where a column begins, which may be outside."""
        return (column - self.start) // self.per * self.wide

    def sized(self, total: int, width: int) -> "Viewport":
        """The same place on a screen or over a line of another size."""
        return replace(self, total=total, width=max(width, 1))._settled()

    def zoomed(self, by: int, around: int) -> "Viewport":
        """Closer or further, with the column `around` where it was."""
        zoom = min(max(self.zoom + by, min(self.widest_out, 0)), WIDEST - 1)
        x = self.x_of(around)
        near = replace(self, zoom=zoom)
        return replace(near, start=around - x // near.wide * near.per)._settled()

    def fitted(self) -> "Viewport":
        """As close as it gets with everything in sight."""
        zoom = self.widest_out
        while zoom == max(zoom, 0) and zoom < WIDEST - 1 and self.total * (zoom + 2) <= self.width:
            zoom += 1
        return replace(self, zoom=zoom, start=0)._settled()

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
        last = -(-max(self.total - self.shown, 0) // self.per) * self.per
        start = min(max(self.start, 0), last) // self.per * self.per
        return replace(self, start=start)
