"""Invented embeddings for tests of metrics."""

from __future__ import annotations

import numpy as np


def random_rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def towards(*cosines: float) -> np.ndarray:
    """Rows of different lengths with these cosines to (1, 0)."""
    cosine_N = np.array(cosines)
    return (np.stack([cosine_N, np.sqrt(1 - cosine_N**2)], axis=1) * np.arange(1, len(cosines) + 1)[:, None]).astype(
        "f"
    )
