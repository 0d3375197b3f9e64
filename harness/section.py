"""Floor 0: the base of every config section. Each section lives beside the code that reads it.

Importing a section must stay cheap (no torch, no transformers): a recipe is checked before anything heavy loads.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One block of a recipe: immutable, every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys; entries of a list of sections by their name, or their place in it."""
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        tree = {entry.get("name", i): entry for i, entry in enumerate(tree)}
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {key: value for name, entry in tree.items() for key, value in flat(entry, f"{prefix}{name}.").items()}
