"""Floor 0: the base of every config section. Each section lives beside the code that reads it.

Importing a section must stay cheap (no torch, no transformers): a recipe is checked before anything heavy loads.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One block of a recipe: immutable, every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
