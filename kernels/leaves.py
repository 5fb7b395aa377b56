"""The tree in which a row-parallel layer sums its K: one on the CPU and the GPU, and for any number of ranks.

K is cut into LEAVES equal leaves, in rising order, which are added in float32 as
((l0+l1)+(l2+l3))+((l4+l5)+(l6+l7)). A rank of 1, 2, 4 or 8 owns equally many leaves, neighbours. Its partial
sum is a subtree, so that partial sums added in the tree over ranks give the bits of one rank that owns all of
K.
"""

LEAVES = 8
"""Into so many leaves K of a whole layer is cut."""


def expect_leaves(depth: int, leaves: int) -> None:
    """Raise ValueError unless `leaves` may be those of one rank, and cut its `depth` k equally."""
    if leaves < 1 or LEAVES % leaves:
        raise ValueError(f"matmul_leaves: leaves is {leaves}, expected 1, 2, 4 or {LEAVES}")
    if depth % leaves:
        raise ValueError(f"matmul_leaves: K is {depth}, which {leaves} leaves do not divide")
