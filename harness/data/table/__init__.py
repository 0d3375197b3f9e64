"""Turns rows into memory-mapped arrays of texts, hashes and lengths."""
