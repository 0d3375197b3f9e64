"""Is the memory that `harness plan` predicts what a rank really holds?"""
