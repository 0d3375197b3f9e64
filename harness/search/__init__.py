"""Encodes texts and finds the nearest documents, on all ranks together. Used by mining, filtering and evaluation."""
