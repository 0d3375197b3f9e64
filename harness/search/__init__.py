"""Texts to embeddings to the nearest documents, over all ranks; mining, filtering and evaluation all use this."""
