"""`python -m benchmarks.step`: see benchmark.py."""

from benchmarks.step.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
