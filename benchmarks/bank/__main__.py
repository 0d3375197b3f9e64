"""`python -m benchmarks.bank`: see benchmark.py."""

from benchmarks.bank.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
