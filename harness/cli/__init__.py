"""The commands of `harness`: a file for each, with its options and what it does."""
