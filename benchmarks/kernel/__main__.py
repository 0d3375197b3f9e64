"""`python -m benchmarks.kernel`: see benchmark.py."""

from benchmarks.kernel.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
