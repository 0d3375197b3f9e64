"""What `from harness import ...` gives to Python programs and notebooks: see docs/python.md."""
