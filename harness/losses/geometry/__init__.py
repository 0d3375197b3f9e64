"""Losses about where the embeddings lie: near a teacher's vectors, alike among themselves as these, or spread out."""
