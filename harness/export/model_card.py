"""Writes the text of README.md in an exported folder, from the facts of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.prompts import ModelPrompts

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
_PROMPTS = """\
The texts below are put before a text. `model.encode_query` takes the prompt `query`, `model.encode_document` the prompt
`document`, `model.encode(texts, prompt_name=NAME)` any of them; plain `model.encode` takes {default}.
"""


def model_card(
    *,
    name: str,
    base_model: str,
    dim: int,
    matryoshka_dims: Sequence[int] | None,
    prompts: ModelPrompts,
    recipe_yaml: str,
    data: Sequence[tuple[str, str, int, str]],
    scores: Sequence[tuple[str, str, float | None, float | None]],
    facts: Mapping[str, Any],
) -> str:
    """The Markdown text. data: entries (task, path, rows, hash); scores: entries (data set, metric, before, after);
    None: not known.

    dim: embedding dimensions. facts: name → value of other facts about the training.
    """
    data_rows = [(task, path, rows, f"`{digest}`") for task, path, rows, digest in data]
    sections = [
        _FRONT_MATTER,
        f"# {name}\n",
        f"Text embeddings of {dim} dimensions, trained from `{base_model}`.\n",
        *_matryoshka(matryoshka_dims or ()),
        _USAGE,
        *_prompts(prompts),
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


def _prompts(prompts: ModelPrompts) -> list[str]:
    if prompts.is_empty:
        return []
    default = f"`{prompts.default_name}`" if prompts.default_name else "none"
    rows = [(f"`{name}`", f"`{json.dumps(text, ensure_ascii=False)}`") for name, text in prompts.named.items()]
    return ["## Prompts\n", _PROMPTS.format(default=default), _table(("name", "text"), rows)]


def _scores(scores: Sequence[tuple[str, str, float | None, float | None]]) -> str:
    if not scores:
        return "No evaluation data was named in the recipe.\n"
    rows = [
        (dataset, metric, *("" if value is None else f"{value:.4f}" for value in values))
        for dataset, metric, *values in scores
    ]
    return _table(("data set", "metric", "before", "after"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
