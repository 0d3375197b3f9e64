"""Code that several benchmarks use: command lines, subprocesses, experiments of many runs, data, result tables."""
