"""Stage 5: the step's texts to ranks, micro-batches and tokens."""
