"""Resolves the paths of a recipe (beside the recipe, under the data root, on the hub) and names the data sets."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from harness.data.source.containers.table import FILE_SUFFIXES
from harness.data.source.shards import is_pattern

# A path with one of these suffixes is a file, never a hub name: the suffixes of files that the harness can read, and
# other common suffixes of data files.
_SUFFIXES = (*FILE_SUFFIXES, ".ndjson", ".csv", ".tsv", ".txt", ".arrow", ".gz", ".zst", ".bz2", ".xz")
_DATA_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, _SUFFIXES))})+$", re.IGNORECASE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SPLITS = frozenset(("train", "dev", "test"))


def cache_root(configured: str | None = None) -> Path:
    """The folder for derived files: `configured` if given, otherwise `conan-harness` in $XDG_CACHE_HOME or ~/.cache."""
    if configured:
        return Path(configured).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "conan-harness"


def locate(path: str, *, recipe_folder: Path | None, data_root: Path | None, allow_hub: bool = True) -> str:
    """The absolute path of a file, a folder or a pattern of files.

    If none exists, a hub name (`owner/name` or `name`) is returned unchanged.

    A relative path is looked up beside the recipe, then under `data_root`. Without a recipe (a path from the command
    line) it is looked up under `data_root`, then in the working directory.

    Raises:
        ValueError: the path does not exist and is not a hub name, or `allow_hub` is false.
    """
    working_directory = Path() if recipe_folder is None else None
    folders = [folder for folder in (recipe_folder, data_root, working_directory) if folder is not None]
    places = list(dict.fromkeys((folder / Path(path).expanduser()).absolute() for folder in folders))
    for place in places:
        if place.exists() or (is_pattern(str(place)) and any(glob.iglob(str(place), recursive=True))):
            return os.path.normpath(place)
    if allow_hub and _HUB_NAME.fullmatch(path) and not _DATA_SUFFIX.search(path):
        return path
    looked_at = ", ".join(str(place) for place in places)
    raise ValueError(
        f"{path}: got no such file or folder, expected it at one of: {looked_at}; "
        "name the folder that holds it with --data-root"
    )


def dataset_name(paths: Sequence[str]) -> list[str]:
    """The name of each data set in results.

    It is the name of the folder, or of the file without suffixes. A file called train, dev or test has the name of its
    parent folder. If two names are equal, both get the name of the folder above as a prefix. If they are still equal,
    they get the split as a suffix instead, and at last all folders as a prefix and the split as a suffix.

    Raises:
        ValueError: a path is given twice.
    """
    absolute = [os.path.abspath(path) for path in paths]
    if len(set(absolute)) < len(absolute):
        twice = Counter(absolute).most_common(1)[0][0]
        raise ValueError(f"{twice}: got this data set twice, expected each once; remove one of them")
    trails, splits = zip(*(_trail(path) for path in absolute), strict=True) if absolute else ((), ())
    names = [trail[-1] for trail in trails]
    for candidates in (
        ["/".join(trail[-2:]) for trail in trails],
        ["/".join((*trail[-1:], split)) for trail, split in zip(trails, splits, strict=True)],
        ["/".join((*trail, split)) for trail, split in zip(trails, splits, strict=True)],
    ):
        count = Counter(names)
        names = [name if count[name] == 1 else other for name, other in zip(names, candidates, strict=True)]
    return names


def _trail(path: str) -> tuple[tuple[str, ...], str]:
    """(the folder names from the root down to the data set's own name, its split or file name)."""
    *folders, last = PurePath(path).parts
    stem = _DATA_SUFFIX.sub("", last)
    if stem in _SPLITS and stem != last:
        return tuple(folders), stem
    return (*folders, stem), last
