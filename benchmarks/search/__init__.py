"""Compare exact search for hard negatives with sentence-transformers."""
