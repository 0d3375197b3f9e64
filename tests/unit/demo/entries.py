"""A docstring that tests modify, and the packages that the tests of this folder read."""

from __future__ import annotations

from typing import Any

from harness.demo.docstrings import Docstring

SMALL_PACKAGES = {"huggingface_hub": "huggingface_hub", "networkx": "networkx"}


def docstring(**changed: Any) -> Docstring:
    text = "it holds every vertex of the tree once and says how far the vertex lies from the root of the tree"
    fields = {
        "package": "networkx",
        "module": "networkx/tree.py",
        "owner": "walk",
        "name": "walk",
        "signature": "walk(tree)",
        "summary": "List the vertices of a tree in order.",
        "description": ("List the vertices of a tree in order.",),
        "rest": f"The list is ordered: {text}.",
    }
    return Docstring(**{**fields, **changed})
