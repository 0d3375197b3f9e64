"""The counts that a step's plan gives."""

from __future__ import annotations

import numpy as np

from harness.types import PairPart, StepPlan, StepTexts


def test_a_plan_counts_its_texts_their_tokens_and_the_repeats_that_are_encoded_once() -> None:
    texts = StepTexts(np.zeros(3, np.int32), np.arange(3), np.array([4, 5, 6]))
    pairs = PairPart("similar", np.arange(2), np.array([0, 0]), np.array([1, 2]), np.float32([1.0, 0.0]))
    metrics = StepPlan(7, texts, (pairs,)).metrics()
    assert metrics == {"step": 7, "num_texts": 3, "num_tokens": 15, "texts_saved": 1.0}
