"""Holds the ranked negatives of every query and notes which of them are in use."""
