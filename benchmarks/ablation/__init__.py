"""Repeat the ablation experiment of the Conan-embedding paper."""
