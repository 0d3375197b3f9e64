"""Experiment trackers, one file each: what `report.trackers` may name."""
