"""`python -m benchmarks.balance`: see benchmark.py."""

from benchmarks.balance.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
