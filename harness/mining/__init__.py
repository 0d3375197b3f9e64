"""Floor 4: which negatives a query uses next. The fixed rule keeps each query's first window."""
