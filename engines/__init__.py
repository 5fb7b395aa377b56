"""What can be recorded: the seam (`base`, `ops`), the built-in engine, adapters, faults."""
