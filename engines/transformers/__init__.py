"""The adapter for transformers' continuous batching: its batches and kernels, told to a Probe."""
