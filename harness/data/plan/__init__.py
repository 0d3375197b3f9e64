"""Computes the texts of a step and how the tasks refer to them."""
