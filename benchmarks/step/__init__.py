"""Loss curve, speed and memory of a step beside sentence-transformers' cached loss."""
