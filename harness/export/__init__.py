"""Folders that other libraries can load; one file per target."""
