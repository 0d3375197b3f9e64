"""Measure a bank of ten million queries: time to open, memory, and time to watch its negatives."""
