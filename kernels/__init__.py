"""What a device computes. Each file says why its result cannot depend on the batch."""

KERNELS_VERSION = 2
"""Bumped whenever a bit of any kernel can move; a trace keeps it."""
