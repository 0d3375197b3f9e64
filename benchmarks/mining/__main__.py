"""`python -m benchmarks.mining`: see benchmark.py."""

from benchmarks.mining.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
