"""Tiles of the similarity matrix by Triton kernels, and how these are compiled and launched."""
