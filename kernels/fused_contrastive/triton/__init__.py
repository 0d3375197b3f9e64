"""Computes tiles of the similarity matrix with Triton kernels; compiles and launches these kernels."""
