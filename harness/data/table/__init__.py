"""Rows to memory-mapped arrays of texts, hashes and lengths."""
