"""Resolves the data paths of a recipe or of the command line, including those of the built-in demo data."""

from __future__ import annotations

from pathlib import Path, PurePath

from harness.config import LoadedRecipe
from harness.data.source.locate import cache_root, locate
from harness.demo.corpus import PREFIX, build_demo_corpus


def locate_data(
    path: str,
    *,
    recipe_folder: Path | None = None,
    data_root: Path | None = None,
    cache: str | None = None,
    allow_hub: bool = True,
) -> str:
    """Resolve a path as `locate` does. `demo-docstrings/...` is demo data, built in the cache folder on first use.

    cache: the recipe's `data.cache`; None means the user's cache folder.
    """
    first, *rest = PurePath(path).parts or ("",)
    if first == PREFIX:
        path, allow_hub = str(build_demo_corpus(cache_root(cache)).joinpath(*rest)), False
    return locate(path, recipe_folder=recipe_folder, data_root=data_root, allow_hub=allow_hub)


def locate_for(loaded: LoadedRecipe, path: str, *, allow_hub: bool = True) -> str:
    """Resolve a data path of this recipe."""
    return locate_data(
        path,
        recipe_folder=loaded.recipe_folder,
        data_root=loaded.data_root,
        cache=loaded.config.data.cache,
        allow_hub=allow_hub,
    )


def locate_source(loaded: LoadedRecipe, path: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Resolve the data path, or each of several data paths, of a task."""
    return locate_for(loaded, path) if isinstance(path, str) else tuple(locate_for(loaded, one) for one in path)
