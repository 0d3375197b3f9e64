"""`python -m benchmarks.negatives`: see benchmark.py."""

from benchmarks.negatives.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
