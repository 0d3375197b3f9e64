"""Looks at data that nobody has described yet, and writes a recipe to start from: `harness init`."""
