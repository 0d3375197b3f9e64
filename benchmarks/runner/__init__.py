"""What the benchmarks share: command lines, processes of their own, runs of recipes, data, tables."""
