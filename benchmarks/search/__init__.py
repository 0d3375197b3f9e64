"""Exact search for hard negatives beside sentence-transformers."""
