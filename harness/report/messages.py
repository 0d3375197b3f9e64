"""Prints messages and warnings that do not belong to a step. Only rank 0 prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from harness import comm


def say(text: str) -> None:
    """Print a line on stdout."""
    if comm.is_main():
        Console().print(text, soft_wrap=True, highlight=False, markup=False)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    if comm.is_main():
        Console(stderr=True).print(f"warning: {text}", soft_wrap=True, highlight=False, markup=False)


def show_counts(lines: Iterable[tuple[bool, str]]) -> None:
    """Print (whether it is a warning, line) of each thing that was counted in data."""
    for is_warning, line in lines:
        (warn if is_warning else say)(line)
