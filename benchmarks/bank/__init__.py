"""A bank of ten million queries: opening, memory, the cost of watching."""
