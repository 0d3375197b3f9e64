"""Padded tokens of the largest rank beside the mean, for several ways to deal texts."""
