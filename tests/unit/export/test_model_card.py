"""The model card states a run's scores, its data sets, its prompts, and its recipe."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

from harness.export.model_card import model_card
from harness.prompts import ModelPrompts

FACTS: dict[str, Any] = {
    "name": "small",
    "metadata": "---\n---\n",
    "base_model": "somebody/model",
    "dim": 384,
    "max_length": 512,
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
    assert "No scores of these weights are recorded." in card
    assert "Matryoshka" not in card
    assert "Prompts" not in card
    assert 'encode_query(["a query"])  # puts nothing before it' in card


def test_the_example_of_a_model_with_code_of_its_own_lets_it_run() -> None:
    """Without leave the program of the card ends in an error."""
    assert 'SentenceTransformer("PATH/TO/THIS/FOLDER")' in model_card(**FACTS)
    assert 'SentenceTransformer("PATH/TO/THIS/FOLDER", trust_remote_code=True)' in model_card(**FACTS, own_code=True)


HOSTILE = [
    "<b>x</b>",
    "<img src=x>",
    "a|b",
    "a\nb",
    "a\n\n# b",
    "[a](b)",
    "![a](b)",
    "<!--",
    "`a",
    "a``b`",
    "&lt;",
    "_a_",
]
HOSTILE += ["_a_", "**a**", "~~a~~", "\u2028a", "a\\", "http://a.b"]


class _Shown(HTMLParser):
    """What a reader of a rendered card sees: its tags, and its words."""

    def __init__(self, card: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.words = ""
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(card))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags[tag] += 1

    def handle_data(self, data: str) -> None:
        self.words += data


def _shown(name: str) -> _Shown:
    facts = {
        "name": name,
        "base_model": name,
        "prompts": ModelPrompts({name: name}, name),
        "recipe_yaml": f"name: {name}\n```\n<b>\n",
        "data": [(name, name, 3, name)],
        "scores": [(name, name, 0.5, 0.5)],
        "facts": {name: name},
    }
    return _Shown(model_card(**{**FACTS, **facts}).split("---\n", 2)[2])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_as_it_is_and_can_bring_neither_html_nor_a_link_nor_another_row(name: str) -> None:
    shown = _shown(name)
    assert shown.tags == _shown("harmless").tags
    in_one_line = "".join(c if c.isprintable() else " " for c in name)
    assert shown.words.count(in_one_line) >= 10
