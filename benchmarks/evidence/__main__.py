"""`python -m benchmarks.evidence`: runs `main` of benchmark.py."""

from benchmarks.evidence.benchmark import main

if __name__ == "__main__":  # subprocesses that a benchmark spawns import this file again
    main()
