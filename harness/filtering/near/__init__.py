"""Near duplicates among pairs: sketches find which pairs to compare, and the compared pairs are compared exactly."""
