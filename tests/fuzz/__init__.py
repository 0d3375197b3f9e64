"""Random inputs for everything that reads what users bring: `python -m tests.fuzz`. Nothing but a line may come of one."""
