"""Floor 2: backbone → pooling → projection. Knows nothing of ranks."""
