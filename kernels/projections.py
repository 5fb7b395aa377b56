"""What a sketch of a row is made of, on the CPU and on the GPU: its norm, then sums under fixed signs."""

PROJECTIONS = 3
PARTS = 1 + PROJECTIONS
"""Numbers of a sketch: the norm, then the projections."""
