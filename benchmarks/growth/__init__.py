"""What grows with the data: each operation at a size, what it costs, and what it may cost."""
