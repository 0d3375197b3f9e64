"""Scores of embeddings on local evaluation data, with mteb's metrics."""
