"""What is checked on every rank before a run, or by `harness check`, loads anything heavy."""
