"""Who a model is in mteb's files: its name, revision and card (`model_meta.json`), and the folder of its results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash
from mteb.cache import ResultCache
from mteb.models import ModelMeta
from pydantic import ValidationError

from harness.files import replace_file
from harness.settings.yaml_text import read_yaml

IDENTITY = ".identity"  # beside the results: which weights they are of
_OURS = ("name", "revision", "loader", "loader_kwargs", "embed_dim", "n_parameters", "experiment_kwargs")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a loaded model. identity: all that its embeddings depend on, as its folder has it.

    settings: what this evaluation changes of it (`dim`, `max_length` ...); mteb keeps such results apart, under
    `experiments/`.
    """

    name: str
    identity: Mapping[str, Any]
    parameters: int
    embedding_parameters: int
    embed_dim: int
    max_tokens: int
    has_prompts: bool
    adapted_from: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A hash of the identity: 32 hexadecimal digits."""
        return xxhash.xxh3_128_hexdigest(json.dumps(self.identity, sort_keys=True).encode())


def model_meta(facts: ModelFacts, name: str | None, revision: str | None, given: Mapping[str, Any]) -> ModelMeta:
    """mteb's card of the model; what is not known is null. given: fields that the user fills in (`--model-meta`).

    Raises:
        ValueError: the name or a field is not as mteb wants it; one line.
    """
    name = name or facts.name
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"--model-name: got {name}, expected ORG/NAME of letters, digits, ., - and _")
    if revision is not None and not re.fullmatch(r"[\w.-]+", revision):
        raise ValueError(f"--revision: got {revision}, expected letters, digits, ., - and _, such as a commit's hash")
    fields: dict[str, Any] = {
        "loader": None, "name": name, "revision": revision or facts.fingerprint, "release_date": None,
        "languages": None, "n_parameters": facts.parameters, "n_embedding_parameters": facts.embedding_parameters,
        "memory_usage_mb": round(facts.parameters * 4 / 2**20), "max_tokens": facts.max_tokens,
        "embed_dim": facts.embed_dim, "license": None, "open_weights": None, "public_training_code": None,
        "public_training_data": None, "framework": ["Sentence Transformers", "PyTorch", "safetensors"],
        "similarity_fn_name": "cosine", "use_instructions": facts.has_prompts, "training_datasets": None,
        "adapted_from": facts.adapted_from, "experiment_kwargs": dict(facts.settings) or None,
    }  # fmt: skip
    try:
        return ModelMeta.model_validate({**fields, **given})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"--model-meta: {place}: got {first['input']!r:.80}: {first['msg']}") from None


def read_model_meta(file: Path) -> dict[str, Any]:
    """Fields of mteb's `ModelMeta` that a user knows: languages, license, training_datasets ...

    Raises:
        ValueError: no such mapping, or a field that is no field of mteb or that is measured here.
    """
    tree: Any = read_yaml(file)
    allowed = [name for name in ModelMeta.model_fields if name not in _OURS]
    if not isinstance(tree, dict):
        raise ValueError(f"--model-meta: got {file}, expected a mapping of fields of mteb's ModelMeta, as license: mit")
    for key in tree:
        if key not in allowed:
            raise ValueError(f"--model-meta: {file}: got the field {key}, expected one of {', '.join(allowed)}")
    if isinstance(tree.get("training_datasets"), list):
        tree["training_datasets"] = set(tree["training_datasets"])
    return tree


def results_folder(root: Path, meta: ModelMeta) -> Path:
    """`ROOT/results/ORG__NAME/REVISION`; `experiments/SETTINGS` below it for other settings than the model's own."""
    return _paths(root).get_task_result_path("TASK", meta).parent


def _paths(root: Path) -> ResultCache:
    cache = ResultCache.__new__(ResultCache)  # its constructor would make the folder
    cache.cache_path = root
    return cache


def is_results_folder(folder: Path) -> bool:
    """Whether an evaluation of this project has written it."""
    return (folder / IDENTITY).is_file()


def refuse_other_weights(folder: Path, facts: ModelFacts, knob: str) -> None:
    """Leave the identity of the model beside its results; refuse a folder with results of other weights.

    Raises:
        ValueError: the results there are of a model with this name and revision, but other weights, prompts or pooling.
    """
    file = folder / IDENTITY
    if not file.is_file():
        replace_file(file, facts.fingerprint + "\n")
    elif file.read_text(encoding="utf-8").strip() != facts.fingerprint:
        raise ValueError(
            f"{knob}: {folder} has scores of this name and revision, but of other weights, tokenizer, pooling or "
            "prompts; name another --revision or another folder"
        )
