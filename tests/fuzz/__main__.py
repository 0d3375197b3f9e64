"""`python -m tests.fuzz`: runs `main` of command.py, which the processes that it starts import by name."""

from tests.fuzz.command import main

if __name__ == "__main__":
    raise SystemExit(main())
