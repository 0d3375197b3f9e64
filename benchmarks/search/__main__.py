"""`python -m benchmarks.search`: see benchmark.py."""

from benchmarks.search.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
