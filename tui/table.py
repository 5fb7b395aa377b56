"""Columns of text: a header and lines under it, cut or filled to their widths."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """`width` 0: as wide as it comes, which only the last can be."""

    title: str
    width: int = 0
    right: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns from left to right."""

    columns: tuple[Column, ...]

    def header(self) -> Text:
        """The titles."""
        return self.line(*(column.title for column in self.columns))

    def line(self, *cells: str | Text) -> Text:
        """One line; a cell that is too long ends in an ellipsis."""
        out = Text(" ", no_wrap=True)
        for index, (column, cell) in enumerate(zip(self.columns, cells, strict=True)):
            text = cell.copy() if isinstance(cell, Text) else Text(cell)
            if column.width:
                text.truncate(column.width, overflow="ellipsis")
                pad = " " * (column.width - text.cell_len)
                text = Text.assemble(pad, text) if column.right else Text.assemble(text, pad)
            out.append_text(text)
            if index < len(cells) - 1:
                out.append(GAP)
        return out


def widest(texts: Sequence[str], least: int, most: int) -> int:
    """A width for all of them."""
    return max([least, *(min(len(text), most) for text in texts)])


def joined(pieces: Sequence[tuple[str, Style] | str], between: str = "  ") -> Text:
    """Pieces on one line."""
    text = Text(no_wrap=True)
    for index, piece in enumerate(pieces):
        text.append(between if index else "")
        text.append(*([piece] if isinstance(piece, str) else piece))
    return text
