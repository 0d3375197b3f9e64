"""Ranked negatives of every query, and which of them are in use."""
