"""Reads and checks settings: recipe files, the base class of recipe sections, and DeepSpeed JSON files."""
