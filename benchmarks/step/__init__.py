"""Measure where the time of a step goes, side by side with another build or other settings."""
