"""Trains text-embedding models on DeepSpeed (after Conan-embedding, arXiv 2408.15710).

    from harness import Recipe, train

The names of `__all__` are loaded when they are asked for; docs/python.md shows what they do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.settings.version import __version__

if TYPE_CHECKING:
    from harness.api.commands import evaluate as evaluate
    from harness.api.commands import mine as mine
    from harness.api.recipe import Recipe as Recipe
    from harness.api.training import Training as Training
    from harness.api.training import train as train
    from harness.run.callbacks import STOP as STOP
    from harness.run.callbacks import Callback as Callback

__all__ = ["STOP", "Callback", "Recipe", "Training", "__version__", "evaluate", "mine", "train"]

_LOADED_LATE = {
    "Recipe": "harness.api.recipe",
    "Training": "harness.api.training",
    "train": "harness.api.training",
    "evaluate": "harness.api.commands",
    "mine": "harness.api.commands",
    "Callback": "harness.run.callbacks",
    "STOP": "harness.run.callbacks",
}


def __getattr__(name: str) -> Any:
    if name in _LOADED_LATE:
        return getattr(import_module(_LOADED_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LOADED_LATE])
