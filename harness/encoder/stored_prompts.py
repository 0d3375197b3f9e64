"""Reads the prompts that a model's folder stores, and what its name hints at if it stores none."""

from __future__ import annotations

from pathlib import Path

from harness.model_folder.find import resolve_model
from harness.model_folder.json_files import read_json
from harness.model_folder.layout import read_layout
from harness.prompts import ModelPrompts
from harness.prompts.known_families import usual_prompts


def prompts_of_folder(name_or_path: str, trust_remote_code: bool = False) -> ModelPrompts:
    """The prompts that a sentence-transformers folder stores; none for a plain Hugging Face folder.

    Raises:
        ValueError: no such model, or a folder that cannot be reproduced.
    """
    folder = resolve_model(name_or_path, trust_remote_code)
    layout = read_layout(folder)
    file = str(Path(folder) / "config_sentence_transformers.json")
    return ModelPrompts.of_folder(layout.prompts, layout.default_prompt_name, file)


def missing_prompts(name_or_path: str, trust_remote_code: bool = False) -> tuple[str, str, str] | None:
    """(family, query prompt, document prompt) if a model's names say that it was trained with prompts; else None.

    The names are the one that the user gave and the one in the folder's config.json, where older versions of
    transformers wrote it.

    Raises:
        ValueError: config.json is broken; one line.
    """
    names = [name_or_path]
    file = Path(resolve_model(name_or_path, trust_remote_code)) / "config.json"
    if file.is_file():
        written = read_json(file, dict).get("_name_or_path")
        names += [written] if isinstance(written, str) and written else []
    return usual_prompts(names)
