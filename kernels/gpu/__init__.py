"""What a GPU computes, in Triton; each file says why its result cannot depend on the batch."""
