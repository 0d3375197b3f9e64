"""Runs mteb's own tasks: encoding and search over all ranks, scores and files by mteb. Imports mteb only when used."""
