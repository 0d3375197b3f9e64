"""Writes the text of README.md in an exported folder, from the facts of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_FRONT_MATTER = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, sentence-similarity]
---
"""
_USAGE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH/TO/THIS/FOLDER")
vectors = model.encode(["a text", "another"])
```
"""


def model_card(
    *,
    name: str,
    base_model: str,
    dim: int,
    matryoshka_dims: Sequence[int] | None,
    recipe_yaml: str,
    data: Sequence[tuple[str, str, int, str]],
    scores: Sequence[tuple[str, str, float | None, float]],
    facts: Mapping[str, Any],
) -> str:
    """The Markdown text. data: entries (task, path, rows, hash); scores: entries (data set, metric, before, after).

    dim: embedding dimensions. facts: name → value of other facts about the training.
    """
    data_rows = [(task, path, rows, f"`{digest}`") for task, path, rows, digest in data]
    sections = [
        _FRONT_MATTER,
        f"# {name}\n",
        f"Text embeddings of {dim} dimensions, trained from `{base_model}`.\n",
        *_matryoshka(matryoshka_dims or ()),
        _USAGE,
        "## Scores\n",
        _scores(scores),
        "## Data\n",
        _table(("task", "path", "rows", "hash"), data_rows),
        "## Training\n",
        "".join(f"- {key}: {value}\n" for key, value in facts.items()),
        f"```yaml\n{recipe_yaml.rstrip()}\n```\n",
    ]
    return "\n".join(sections)


def _matryoshka(dims: Sequence[int]) -> list[str]:
    if not dims:
        return []
    numbers = ", ".join(map(str, dims))
    return [f"Matryoshka dimensions: {numbers}. Cut a vector to one of these and normalise it again.\n"]


def _scores(scores: Sequence[tuple[str, str, float | None, float]]) -> str:
    if not scores:
        return "No evaluation data was named in the recipe.\n"
    rows = [
        (dataset, metric, "" if before is None else f"{before:.4f}", f"{after:.4f}")
        for dataset, metric, before, after in scores
    ]
    return _table(("data set", "metric", "before", "after"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
