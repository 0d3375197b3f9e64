"""What replacement rules judge by: where a negative stands among a step's documents, and what is chosen next."""
