"""The model card states a run's scores, its data sets, its prompts, and its recipe."""

from __future__ import annotations

from typing import Any

from harness.export.model_card import model_card
from harness.prompts import ModelPrompts

FACTS: dict[str, Any] = {
    "name": "small",
    "base_model": "somebody/model",
    "dim": 384,
    "matryoshka_dims": (128, 384),
    "prompts": ModelPrompts({"query": "find: ", "STS": "same\n"}),
    "recipe_yaml": "name: small\n",
    "data": [("faq", "faq.jsonl", 3, "abc")],
    "scores": [("questions", "ndcg_at_10", None, 0.5), ("pairs", "spearman", 0.25, 0.75)],
    "facts": {"steps": 10},
}


def test_scores_data_prompts_and_facts_are_lines_of_the_card() -> None:
    lines = model_card(**FACTS).splitlines()
    assert "| questions | ndcg_at_10 |  | 0.5000 |" in lines  # the column `before` is empty
    assert "| pairs | spearman | 0.2500 | 0.7500 |" in lines
    assert "| faq | faq.jsonl | 3 | `abc` |" in lines
    assert "- steps: 10" in lines
    assert '| `query` | `"find: "` |' in lines
    assert r'| `STS` | `"same\n"` |' in lines
    assert "Matryoshka dimensions: 128, 384. Cut a vector to one of these and normalise it again." in lines


def test_a_score_that_is_not_defined_has_an_empty_cell() -> None:
    """A collapsed model has no correlation: null in evaluation.json. The card must not end the run at its export."""
    card = model_card(**{**FACTS, "scores": [("pairs", "spearman", None, None), ("pairs", "pearson", 0.5, None)]})
    assert "| pairs | spearman |  |  |" in card
    assert "| pairs | pearson | 0.5000 |  |" in card


def test_without_scores_prompts_or_matryoshka_dims_the_card_says_so_or_nothing() -> None:
    card = model_card(**{**FACTS, "scores": [], "matryoshka_dims": None, "prompts": ModelPrompts()})
    assert "No evaluation data was named in the recipe." in card
    assert "Matryoshka" not in card
    assert "Prompts" not in card
