"""What a run leaves behind: fingerprints, the trace, and `record`."""
