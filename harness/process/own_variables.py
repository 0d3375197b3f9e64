"""Environment variables that this process sets for itself and takes back: the next training must not find them."""

from __future__ import annotations

import os

_own: list[str] = []


def set_variable(name: str, value: str) -> None:
    """Set a variable that is not set, until `take_back_variables`."""
    if name not in os.environ:
        os.environ[name] = value
        _own.append(name)


def take_back_variables() -> None:
    """Remove all variables that `set_variable` has set."""
    while _own:
        os.environ.pop(_own.pop(), None)
