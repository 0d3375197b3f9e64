"""`python -m benchmarks.ablation`: see benchmark.py."""

from benchmarks.ablation.benchmark import main

if __name__ == "__main__":  # processes that a benchmark starts import this file, too
    main()
