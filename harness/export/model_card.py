"""Writes the text of README.md in an exported folder, from the facts of the run.

It is made to be published, so it holds no path of this machine, and what others have named is shown as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.export.markdown import code, code_block, one_line, plain, table
from harness.export.readers import TRIED
from harness.prompts import ModelPrompts
from harness.prompts.model_prompts import SENTENCE_NAME_OF_KIND

_OLDER_VERSIONS = """\
Before sentence-transformers 5, `model.encode(texts, prompt_name="query")` does what `encode_query` does here.
"""
_PROMPTS = """\
The texts below are put before a text. `model.encode_query` takes the prompt `query`, `model.encode_document` the prompt
`document`, `model.encode(texts, prompt_name=NAME)` any of them; plain `model.encode` takes {default}.
mteb finds `query`, `document` and its own types of tasks by these names.
"""


def model_card(
    *,
    name: str,
    metadata: str,
    base_model: str,
    dim: int,
    max_length: int,
    matryoshka_dims: Sequence[int] | None,
    prompts: ModelPrompts,
    recipe_yaml: str,
    data: Sequence[tuple[str, str, int, str]],
    scores: Sequence[tuple[str, str, float | None, float | None]],
    facts: Mapping[str, Any],
    own_code: bool = False,
) -> str:
    """The Markdown text. data: entries (task, data set, rows, hash); scores: entries (data set, metric, before, after);
    None: not known.

    metadata: the front matter. dim: embedding dimensions. max_length: tokens. facts: name → value, about the training.
    own_code: whether the folder brings code that a reader must allow to run.
    """
    sections = [
        metadata,
        f"# {plain(name)}\n",
        f"Text embeddings of {dim} dimensions for texts of up to {max_length} tokens, trained from {code(base_model)}. "
        "They are compared by cosine.\n",
        *_matryoshka(matryoshka_dims or ()),
        *_usage(prompts, own_code),
        *_prompts(prompts),
        "## Scores\n",
        _scores(scores),
        "## Data\n",
        _data(data),
        "## Training\n",
        "".join(f"- {plain(key)}: {plain(value)}\n" for key, value in facts.items()),
        code_block(recipe_yaml, "yaml"),
    ]
    return "\n".join(sections)


def _data(data: Sequence[tuple[str, str, int, str]]) -> str:
    rows = [
        (plain(task), plain(source), str(count), code(digest, in_table=True)) for task, source, count, digest in data
    ]
    return table(("task", "data", "rows", "hash"), rows)


def _usage(prompts: ModelPrompts, own_code: bool) -> list[str]:
    tried = f"Folders of this form were loaded and compared with {_versions()}.\n"
    return [code_block(_example(prompts, own_code), "python"), _OLDER_VERSIONS, tried]


def _example(prompts: ModelPrompts, own_code: bool) -> str:
    """A program that encodes queries, documents and, where it has a prompt for them, other texts."""
    retrieval, leave = prompts.of_kind("retrieval"), ", trust_remote_code=True" if own_code else ""
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("PATH/TO/THIS/FOLDER"{leave})',
        f'queries = model.encode_query(["a query"])  # puts {_put(retrieval.query)} before it',
        f'documents = model.encode_document(["a document", "another"])  # puts {_put(retrieval.document)} before each',
        "print(model.similarity(queries, documents))",
    ]
    for name in SENTENCE_NAME_OF_KIND.values():
        if prompts.named.get(name):
            text = f'vectors = model.encode(["a text", "another"], prompt_name="{name}")'
            lines.append(f"{text}  # puts {_put(prompts.named[name])} before each")
    return "\n".join(lines)


def _put(prompt: str) -> str:
    return one_line(json.dumps(prompt, ensure_ascii=False)) if prompt else "nothing"


def _versions() -> str:
    *others, last = (f"sentence-transformers {one} (transformers {other})" for one, other in TRIED)
    return f"{', '.join(others)} and {last}"


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
        return "No scores of these weights are recorded.\n"
    rows = [
        (plain(dataset), plain(metric), *("" if value is None else f"{value:.4f}" for value in values))
        for dataset, metric, *values in scores
    ]
    return table(("data set", "metric", "before", "after"), rows)
