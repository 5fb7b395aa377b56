"""Ranks that add up and gather their results: what an engine asks of a device's collectives.

Fixed orders of additions, one cast at the end, the same at every size and position of a message.
"""

from typing import Any, Protocol

ORDERS = ("ranks", "tree")
"""How an element of n ranks is summed in float32.

"ranks": ((v0 + v1) + v2) + ...; any n. "tree": (v0 + v1) + (v2 + v3), and so on for n = 1, 2, 4 or 8; of
partial sums that are subtrees themselves, the result is the same for all of these n.
"""


class Group(Protocol):
    """Rank `rank` of `world_size`. All ranks make the same calls, with the same shapes, in the same order.

    EngineError where a rank dies, gives up or does not come, and for a message or a dtype that is not for it.
    """

    rank: int
    world_size: int

    def all_reduce(self, x: Any, out: Any, *, order: str) -> Any:
        """Every rank's x added in `order`, in float32, and rounded once to the dtype of out; gives `out`.

        x and out [R, C], contiguous.
        """
        ...

    def all_gather(self, x: Any, out: Any) -> Any:
        """The columns of all ranks side by side; gives `out`.

        x [R, C], contiguous; out [R, up to world_size * C], where what is past the last column is left out.
        """
        ...
