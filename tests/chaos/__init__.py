"""Kills ranks of a run with SIGKILL, continues it each time, and compares what is left with an undisturbed run."""
