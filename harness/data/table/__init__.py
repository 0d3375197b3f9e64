"""Stage 2: rows to memory-mapped arrays of texts, hashes and lengths."""
