"""Measure how seconds and memory grow with the data, operation by operation."""
