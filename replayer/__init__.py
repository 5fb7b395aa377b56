"""What a second run proves: forced schedule, compare, divergence, and `replay`."""
