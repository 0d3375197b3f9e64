"""Writes the text of README.md in an exported folder, from the facts of the run.

It is made to be published, so it holds no path of this machine, and what others have named is shown as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.export.markdown import code, code_block, plain, table
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
    """The Markdown text. data: entries (task, data set, rows, hash); scores: entries (data set, metric, before, after);
    None: not known.

    dim: embedding dimensions. facts: name → value of other facts about the training.
    """
    data_rows = [
        (plain(task), plain(source), str(rows), code(digest, in_table=True)) for task, source, rows, digest in data
    ]
    sections = [
        _FRONT_MATTER,
        f"# {plain(name)}\n",
        f"Text embeddings of {dim} dimensions, trained from {code(base_model)}.\n",
        *_matryoshka(matryoshka_dims or ()),
        _USAGE,
        *_prompts(prompts),
        "## Scores\n",
        _scores(scores),
        "## Data\n",
        table(("task", "data", "rows", "hash"), data_rows),
        "## Training\n",
        "".join(f"- {plain(key)}: {plain(value)}\n" for key, value in facts.items()),
        code_block(recipe_yaml, "yaml"),
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
    default = code(prompts.default_name) if prompts.default_name else "none"
    named = ((name, json.dumps(text, ensure_ascii=False)) for name, text in prompts.named.items())
    rows = [[code(cell, in_table=True) for cell in row] for row in named]
    return ["## Prompts\n", _PROMPTS.format(default=default), table(("name", "text"), rows)]


def _scores(scores: Sequence[tuple[str, str, float | None, float | None]]) -> str:
    if not scores:
        return "No evaluation data was named in the recipe.\n"
    rows = [
        (plain(dataset), plain(metric), *("" if value is None else f"{value:.4f}" for value in values))
        for dataset, metric, *values in scores
    ]
    return table(("data set", "metric", "before", "after"), rows)
