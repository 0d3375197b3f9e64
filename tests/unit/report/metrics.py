"""Example metrics of a step, as the trainer passes them to a report."""

from __future__ import annotations

STEP_METRICS: dict[str, float] = {
    "step": 1,
    "num_texts": 40,
    "num_tokens": 800,
    "loss": 1.5,
    "loss/faq": 1.0,
    "loss/sts": 0.5,
    "positive_similarity": 0.8,
    "negative_similarity": float("nan"),
    "learning_rate": 1e-5,
    "gradient_norm": 2.0,
    "negatives_replaced": 3.0,
    "seconds": 2.0,
    "texts_per_second": 20.0,
    "tokens_per_second": 400.0,
}
