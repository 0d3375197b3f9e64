"""`python -m benchmarks.soak`: runs `main` of benchmark.py."""

from benchmarks.soak.benchmark import main

if __name__ == "__main__":
    main()
