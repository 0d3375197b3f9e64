"""Compare loss curve, speed and memory with the cached loss of sentence-transformers."""
