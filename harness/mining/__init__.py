"""Chooses the negatives of every query: searches them before training, replaces or re-ranks them during it."""
