"""Measure how much time dynamic mining adds to a step."""
