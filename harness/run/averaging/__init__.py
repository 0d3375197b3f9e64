"""The mean of several checkpoints' weights: of the last ones, or of those that raise a development score."""
