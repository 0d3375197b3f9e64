"""Faults that a user may meet, each by the real commands: `python -m tests.faults` prints what became of them."""
