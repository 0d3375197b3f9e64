"""A training script of sentence-transformers, read and not run."""
