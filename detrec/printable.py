"""What a stranger named, in one line that garbles no terminal: texts, and places of cells."""

from typing import Protocol


class Placed(Protocol):
    """A cell by its place; `layer` is None outside layers."""

    @property
    def step(self) -> int:
        """The step that computed it."""
        ...

    @property
    def request(self) -> str:
        """The request's id."""
        ...

    @property
    def position(self) -> int:
        """The row's position in the request."""
        ...

    @property
    def layer(self) -> int | None:
        """The op's layer."""
        ...

    @property
    def op(self) -> str:
        """The op's bare name."""
        ...


class Ranked(Placed, Protocol):
    """A cell of one rank; None is the sum over all of them."""

    @property
    def rank(self) -> int | None:
        """The rank."""
        ...


def printable(text: str) -> str:
    """The text in one line; what is not printable ASCII as Python escapes it."""
    return ascii(text)[1:-1]


def line(text: str) -> str:
    """The text in one line; what is no printable character of any script as Python escapes it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, noun: str, nouns: str = "") -> str:
    """ "1 row", "2,500 rows"; `nouns` where an s does not do."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def place_of(cell: Placed) -> str:
    """ "step 2, request r0, position 5, layer 1, op attn"."""
    layer = "" if cell.layer is None else f"layer {cell.layer}, "
    return (
        f"step {cell.step}, request {printable(cell.request)}, position {cell.position}, {layer}op {cell.op}"
    )


def place_on_rank(cell: Ranked, ranks: int) -> str:
    """`place_of`, and on which rank, where there are several `ranks`."""
    if ranks < 2:
        return place_of(cell)
    return f"{place_of(cell)}, {'the sum over ranks' if cell.rank is None else f'rank {cell.rank}'}"
