"""Continues a checkpoint with another number of ranks or another ZeRO stage: its state is divided anew."""
