"""Kinds of evaluation data, one file per kind: which texts to encode and how to score their embeddings."""
