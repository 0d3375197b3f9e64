"""The base class of every section of a recipe. A section is defined beside the code that reads it.

A section's module must not import torch or transformers, because a recipe is checked before they are loaded.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo

OF_RUN = {"of_run": True}  # pydantic's context for the recipe that a run wrote, with what its model's folder stores


def as_tuple(value: Any) -> Any:
    """One name in place of a list with one name, and a list, as a tuple: for a `BeforeValidator` of a section's key."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def is_of_run(info: ValidationInfo) -> bool:
    """Whether the values are read from a run's folder: what its model stores has to be taken as it is."""
    return info.context == OF_RUN


class Section(BaseModel):
    """One block of a recipe. Its values cannot be changed, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dictionary with dotted keys: `{"training.steps": 10, "tasks.faq.quota": 8}`.

    An entry of a list of sections is named by its `name`, or by its position without one.
    """
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        tree = {entry.get("name", i): entry for i, entry in enumerate(tree)}
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {key: value for name, entry in tree.items() for key, value in flat(entry, f"{prefix}{name}.").items()}
