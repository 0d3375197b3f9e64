"""Kinds of evaluation data, one file each: which texts are encoded and which scores the embeddings get."""
