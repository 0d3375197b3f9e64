"""Scores embeddings on local evaluation data with mteb's metrics."""
