"""The texts of a step to ranks, micro-batches and token ids."""
