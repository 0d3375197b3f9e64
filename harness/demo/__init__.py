"""The demo's data, made from the documentation of installed packages."""
