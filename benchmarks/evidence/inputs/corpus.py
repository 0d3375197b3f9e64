"""The docstrings of all installed packages, divided by whole packages into training, development and test.

    installed packages  →  docstrings (the demo's reader)  →  usable, no repeats  →  {"train", "dev", "test"}

The demo reads ten packages and holds modules out; here all packages are read, and no text of a held-out package is
trained on. Repeats are dropped across packages before the division, so that no held-out text is a copy of a training
text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import packages_distributions, version
from typing import Any

from harness.demo.docstrings import Docstring, read_docstrings
from harness.demo.selection import deduplicate, is_usable
from harness.demo.texts import document, shuffled

# Dependencies of the harness, so that they are installed wherever this runs. All other packages are for training.
HELD_OUT: dict[str, tuple[str, ...]] = {
    "dev": ("pandas", "huggingface_hub"),
    "test": ("scikit-learn", "networkx", "datasets"),
}
_LEFT_OUT = frozenset({"conan-harness"})  # this project: its texts change with every commit
Split = dict[str, list[Docstring]]


def installed_packages() -> dict[str, str]:
    """Import name → distribution of every installed package, sorted by import name; private names are left out.

    An import name that several distributions share (`google`) is left out, too.
    """
    found = {}
    for import_name, distributions in sorted(packages_distributions().items()):
        names = set(distributions) - _LEFT_OUT
        if len(set(distributions)) == 1 and names and not import_name.startswith("_") and "/" not in import_name:
            found[import_name] = names.pop()
    return found


def read_packages(packages: Mapping[str, str]) -> list[Docstring]:
    """The usable docstrings of packages (import name → distribution), without repeats.

    Held-out packages are read first: of two entries that repeat each other, the held-out one stays, so that the test is
    the same whatever else is installed.
    """
    held_out = {name for names in HELD_OUT.values() for name in names}
    in_order = sorted(packages.items(), key=lambda item: (item[1] not in held_out, item[1].lower(), item[0]))
    entries = [entry for import_name, package in in_order for entry in read_docstrings(package, import_name)]
    return deduplicate([entry for entry in entries if is_usable(entry)])


def divide(entries: Sequence[Docstring]) -> Split:
    """Divide docstrings by package, each part in a pseudo-random order that is equal on every machine.

    Raises:
        ValueError: a part has no docstring.
    """
    part_of = {package: part for part, packages in HELD_OUT.items() for package in packages}
    split: Split = {"train": [], **{part: [] for part in HELD_OUT}}
    for entry in shuffled(entries):
        split[part_of.get(entry.package, "train")].append(entry)
    for part, members in split.items():
        if not members:
            expected = ", ".join(HELD_OUT.get(part, ("any other package",)))
            raise ValueError(f"installed packages: got no docstrings for {part}, expected those of {expected}")
    return split


def pairs(entries: Sequence[Docstring]) -> list[dict[str, Any]]:
    """Training rows: the first sentence of a docstring is the query, signature and rest its positive."""
    return [{"query": entry.summary, "positive": [document(entry)], "negative": []} for entry in entries]


def counts(split: Split, kept: Collection[str] = ("train", *HELD_OUT)) -> dict[str, dict[str, dict[str, Any]]]:
    """Part → package → its version and its number of docstrings, the largest first."""
    found = {}
    for part in kept:
        of_package = Counter(entry.package for entry in split[part])
        found[part] = {name: {"version": version(name), "docstrings": n} for name, n in of_package.most_common()}
    return found
