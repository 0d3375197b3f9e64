"""Turns files into validated rows. Training, filtering and evaluation read all data files through this folder."""
