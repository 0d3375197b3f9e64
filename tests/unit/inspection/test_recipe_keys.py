"""docs/recipe_keys.md is what the sections of a recipe say, and every key says what it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from harness.config import RunConfig
from harness.filtering.config import FilterConfig
from harness.inspection.recipe_keys import keys_of, markdown_page
from harness.settings.section import Section
from tests.unit.cli.command_line import invoke

PAGE = Path(__file__).parents[3] / "docs" / "recipe_keys.md"


class Part(Section):
    """A part of it. One more sentence."""

    size: int = Field(3, ge=1, le=1000)  # how large it is


class Whole(Section):
    """Everything. first: the one. second: the other,
    which goes on here.

    third: also
        over two lines.
    """

    first: str
    second: float | None = None
    third: tuple[str, ...] = ("a",)
    # Above,
    # in two lines.
    fourth: bool = False
    parts: tuple[Part, ...] = ()


def test_the_page_of_all_keys_is_what_the_sections_say() -> None:
    """Write it anew with `harness keys --markdown > docs/recipe_keys.md`."""
    assert PAGE.read_text(encoding="utf-8") == markdown_page(RunConfig, FilterConfig)


@pytest.mark.parametrize("section", [RunConfig, FilterConfig])
def test_every_key_says_what_it_does(section: type[Section]) -> None:
    """By the docstring of its section (`key: what it does`), or by a comment at its line or above it."""
    assert [key.path for key in keys_of(section) if len(key.text) < 8] == []


def test_a_key_is_read_from_docstring_comment_and_schema() -> None:
    keys = {key.path: (key.allowed, key.default, key.text) for key in keys_of(Whole)}
    assert keys == {
        "first": ("text", "required", "The one"),
        "second": ("number or null", "null", "The other, which goes on here"),
        "third": ("a list of texts", '["a"]', "Also over two lines"),
        "fourth": ("true or false", "false", "Above, in two lines"),
        "parts": ("a list of sections", "", "A part of it"),
        "parts.NAME.size": ("whole number ≥ 1, ≤ 1,000", "3", "How large it is"),
    }


def test_the_command_shows_the_keys_that_hold_a_word() -> None:
    done = invoke("keys", "layer_decay", "keep")
    assert [line.partition(":")[0] for line in done.output.splitlines() if not line.startswith(" ")] == [
        "training.layer_decay",
        "checkpoint.keep",
    ]
    wrong = invoke("keys", "learnig")
    assert (wrong.exit_code, wrong.output.count("\n")) == (2, 1)
