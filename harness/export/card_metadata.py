"""Writes the metadata of a model card as the hub reads it, and reads that of the model that training started from.

Source: huggingface_hub 1.x, `ModelCardData` and `EvalResult`; the names of tasks are those of sentence-transformers'
cards. What is not known is left out.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.export.markdown import one_line
from harness.model_folder.find import DEMO_MODEL, is_path, published_name, resolve_model, words_of

_TAGS = ("sentence-transformers", "feature-extraction", "sentence-similarity", "dense", "text-embeddings-inference")
_TASK_OF_KIND = {
    "retrieval": "information-retrieval",
    "reranking": "reranking",
    "sts": "semantic-similarity",
    "pair_classification": "binary-classification",
    "classification": "classification",
    "clustering": "clustering",
}
_OF_BASE = ("language", "license", "license_name", "license_link")  # taken over from the first model's card
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def front_matter(
    name: str,
    base: Mapping[str, Any],
    datasets: Sequence[str],
    scores: Sequence[tuple[str, str, float | None, float | None]],
    kinds: Mapping[str, str],
) -> str:
    """The card's metadata between two lines of three hyphens.

    base: what `base_metadata` has found. datasets: hub names. scores: entries (data set, metric, before, after), of
    which the last stands in `model-index`. kinds: data set → kind of data.
    """
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=_TASK_OF_KIND.get(kinds.get(dataset, ""), "feature-extraction"),
            dataset_type="unknown",  # local files, which have no name on a hub
            dataset_name=one_line(dataset),
            metric_type=one_line(metric),
            metric_name=one_line(metric),
            metric_value=value,
        )
        for dataset, metric, _, value in scores
        if value is not None
    ]
    data = ModelCardData(
        **dict(base),
        datasets=list(dict.fromkeys(datasets)) or None,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=list(_TAGS),
        model_name=one_line(name),
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def base_metadata(name_or_path: str) -> dict[str, Any]:
    """`base_model`, `language` and `license` as far as they are known: from the name, and from the first model's card.

    A folder has no name on a hub: then `base_model` is the one of its own card, if it has one that is no path.
    """
    card = _card(name_or_path)
    found = {key: card[key] for key in _OF_BASE if card.get(key)}
    name = hub_name(published_name(name_or_path)) or _hub_names(card.get("base_model"))
    return ({"base_model": name} if name else {}) | found


def hub_name(name: str) -> str | None:
    """The name, if it is one on a hub and no path."""
    is_name = _HUB_NAME.fullmatch(name) is not None and not is_path(name) and not os.path.exists(name)
    return name if is_name else None


def _hub_names(stated: Any) -> str | list[str] | None:
    """What a card states as `base_model`, a name or several, as far as it is a name on a hub."""
    names = [name for name in (stated if isinstance(stated, list) else [stated]) if isinstance(name, str)]
    names = [name for name in names if hub_name(name)]
    return names if len(names) > 1 else names[0] if names else None


def _card(name_or_path: str) -> dict[str, Any]:
    """The metadata of a model's README.md, if it lies on this machine."""
    from huggingface_hub import metadata_load, try_to_load_from_cache

    readme: Any
    if name_or_path == DEMO_MODEL:
        readme = Path(resolve_model(name_or_path)) / "README.md"
    elif hub_name(name_or_path):
        readme = try_to_load_from_cache(name_or_path, "README.md")
    else:  # a folder that may have been taken away while its model was trained
        readme = Path(os.path.expanduser(name_or_path)) / "README.md"
    if not isinstance(readme, str | Path) or not Path(readme).is_file():
        return {}
    try:
        return dict(metadata_load(readme) or {})
    except Exception as error:  # whatever YAML, or no YAML, somebody has written there
        warnings.warn(
            f"{readme}: the metadata cannot be read ({words_of(error)[:200]}); the new card has none of it",
            stacklevel=2,
        )
        return {}
