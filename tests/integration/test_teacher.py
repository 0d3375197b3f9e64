"""A run learns from a teacher's vectors; a checkpoint is continued beside the same vectors only."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.integration.test_resume import train
from tests.ranks import run_ranks
from tests.unit.data.test_teacher import write_vectors

pytestmark = pytest.mark.distributed


def test_training_draws_the_embeddings_to_the_teachers_and_stops_at_other_vectors(folder) -> None:
    """Two ranks; the task has nothing but the teacher to learn from."""
    settings = (
        write_vectors(folder, dim=32),
        "tasks.faq.loss=[teacher_cosine, teacher_similarity, spread_out]",
        "loss.weights={teacher_similarity: 2.0, spread_out: 0.1}",
        "loss.beta=0",
        "tasks.intents.weight=0.001",
        "training.steps=10",
        "training.learning_rate=0.01",
        "training.schedule=constant",
        "evaluation={}",
        "checkpoint.every=10",
    )
    run_ranks(2, train, str(folder), "taught", settings)
    rows = [json.loads(line) for line in (folder / "taught" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss/faq"] for row in rows]
    assert np.mean(losses[-3:]) < 0.97 * np.mean(losses[:3])

    vectors = np.load(folder / "query.npy")
    np.save(folder / "query.npy", vectors[::-1])
    with pytest.raises(AssertionError, match="teacher vectors"):
        run_ranks(1, train, str(folder), "taught", (*settings, "training.steps=12"))
