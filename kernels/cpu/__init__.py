"""Kernels compiled for the CPU with numba: the reference of every other device."""
