"""Reads a JSON file of arguments."""

from __future__ import annotations

import json
from pathlib import Path

from harness.conversion.given.given import Given, Trainer, trainer_of


def of_json(text: str, path: Path, trainer: Trainer | None) -> Given:
    """The arguments in the object that `text`, the content of the file at `path`, holds.

    Raises:
        ValueError: no JSON, no object of arguments, or it is not clear whose they are.
    """
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: got {' '.join(str(error).split())[:80]}, expected valid JSON") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: got {type(tree).__name__}, expected an object of arguments")
    if "zero_optimization" in tree:
        raise ValueError(
            f"{path}: got a DeepSpeed JSON, which names no model and no data, expected the trainer's arguments; a "
            "recipe takes it as it is: deepspeed: PATH, without what the recipe owns"
        )
    found = trainer_of("", tree, str(path), trainer)
    losses = tree.pop("loss", []) if found == "sentence-transformers" else []
    return Given(found, tree, losses=[losses] if isinstance(losses, str) else list(losses))
