"""Random inputs for all that reads what users bring (`python -m tests.fuzz`): nothing but a line may come of one."""
