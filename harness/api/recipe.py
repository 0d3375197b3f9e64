"""A recipe as a Python object: from keyword arguments, a dictionary, or a YAML file, with data in files or in memory.

    keyword arguments, rows in memory  →  plain values, rows as files of the cache  →  checked `LoadedRecipe`

Nothing heavy is imported: a mistake costs milliseconds.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.api.rows_in_memory import with_files
from harness.api.short_mistakes import with_short_mistakes
from harness.config import LoadedRecipe, RunConfig, check_tree, dump, load_recipe


class Recipe:
    """Everything that defines an experiment, checked. The keys are those of a YAML recipe (docs/recipe_keys.md).

    `Recipe(name="faq", model={...}, tasks=[...], training={...})`. A task's `path`, and `evaluation.data`, may be
    rows in memory: a `datasets.Dataset`, or a list of mappings (docs/python.md). Relative paths are looked up in the
    working directory, then under `data_root`.

    Raises:
        ValueError: a line per mistake, `KEY: got ..., expected ...`.
    """

    @with_short_mistakes
    def __init__(self, *, data_root: str | os.PathLike[str] | None = None, **keys: Any) -> None:
        root = None if data_root is None else Path(data_root)
        if root is not None and not root.is_dir():
            raise ValueError(f"data_root: got {root}, expected an existing folder")
        self._loaded = check_tree(with_files(keys), "Recipe", Path(), data_root=root)

    @classmethod
    @with_short_mistakes
    def from_dict(cls, keys: Mapping[str, Any], *, data_root: str | os.PathLike[str] | None = None) -> Recipe:
        """The same as `Recipe(**keys)`."""
        mistaken = next((key for key in keys if not isinstance(key, str)), None)
        if mistaken is not None:
            raise ValueError(f"Recipe: got the key {mistaken!r}, expected texts as keys")
        return cls(data_root=data_root, **keys)

    @classmethod
    @with_short_mistakes
    def from_file(
        cls,
        recipe: str | os.PathLike[str],
        changes: Mapping[str, Any] | None = None,
        *,
        data_root: str | os.PathLike[str] | None = None,
    ) -> Recipe:
        """A YAML file, or a recipe of this package by name (`demo`).

        changes: `{"training.steps": 100, "tasks.faq.quota": 32}`, as `--set` on the command line. Relative paths are
        looked up beside the file, then under `data_root`.
        """
        root = None if data_root is None else Path(data_root)
        with _named_as_in_python():
            return cls._of(load_recipe(os.fspath(recipe), _overrides(changes or {}), root))

    @classmethod
    def _of(cls, loaded: LoadedRecipe) -> Recipe:
        recipe = cls.__new__(cls)
        recipe._loaded = loaded
        return recipe

    @property
    def config(self) -> RunConfig:
        """Every value, defaults too: `recipe.config.training.steps`."""
        return self._loaded.config

    @property
    def loaded(self) -> LoadedRecipe:
        """The checked values, and where relative paths are looked up."""
        return self._loaded

    @with_short_mistakes
    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Another recipe with other values: `recipe.changed({"training.seed": 1, "output": "runs/seed1"})`."""
        loaded = self._loaded
        tree = copy.deepcopy(loaded.given)
        with _named_as_in_python():
            return self._of(check_tree(tree, "Recipe", loaded.recipe_folder, _overrides(changes), loaded.data_root))

    def to_yaml(self) -> str:
        """All values as YAML, as they stand in the run folder's recipe.yaml."""
        return dump(self.config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.loaded == other.loaded

    def __hash__(self) -> int:
        return hash(self.to_yaml())

    def __repr__(self) -> str:
        tasks = ", ".join(f"{task.name} ({task.kind})" for task in self.config.tasks)
        return (
            f"Recipe({self.config.name}: {self.config.model.name_or_path}, {self.config.training.steps} steps of "
            f"{tasks} → {self.config.output})"
        )


def as_recipe(recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any]) -> Recipe:
    """A recipe from all that `train` takes for one."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.from_dict(recipe)
    if isinstance(recipe, str | os.PathLike):
        return Recipe.from_file(recipe)
    raise ValueError(
        f"recipe: got {type(recipe).__name__}, expected a Recipe, a dictionary, or the path of a YAML file"
    )


@contextmanager
def _named_as_in_python() -> Iterator[None]:
    """Messages name the arguments of this module, not the options of the command line."""
    try:
        yield
    except ValueError as error:
        text = re.sub(r"^--set:? ", "changes: ", str(error), flags=re.MULTILINE)
        raise ValueError(text.replace("--data-root: ", "data_root: ")) from None


def _overrides(changes: Mapping[str, Any]) -> list[str]:
    """Changes as the texts that `--set` takes. JSON is YAML."""
    lines = []
    for key, value in changes.items():
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        try:
            lines.append(f"{key}={json.dumps(plain, ensure_ascii=False)}")
        except TypeError:
            raise ValueError(
                f"{key}: got {type(value).__name__}, expected a plain value; rows in memory belong into Recipe(...)"
            ) from None
    return lines
