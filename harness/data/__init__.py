"""Turns data files into the token batches of a step. README.md explains source, table, bank, plan and batch."""
