"""The tiles as Triton kernels, and how they are compiled and launched."""
