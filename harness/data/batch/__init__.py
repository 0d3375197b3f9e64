"""Assigns the texts of a step to ranks and micro-batches, and turns the texts into token ids."""
