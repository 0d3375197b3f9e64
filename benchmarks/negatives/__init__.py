"""Compare fixed, replaced and no hard negatives on real data."""
