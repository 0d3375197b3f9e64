"""What another start of a run may change, and what the run folder records of it."""
