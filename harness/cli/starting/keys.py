"""`harness keys`: the keys of a recipe, with what they take and do."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line


def keys(
    words: Annotated[
        list[str] | None, typer.Argument(help="Show only keys whose path holds one of these, e.g. `training` or `ema`.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print all of them as the page docs/recipe_keys.md.")
    ] = False,
) -> None:
    """Show the keys of a recipe: what each takes, its default, and what it does.

    - `harness keys`

    - `harness keys negatives`

    - `harness keys training.ema`
    """
    with mistakes_in_one_line(verbose=False):
        from harness.config import RunConfig
        from harness.filtering.config import FilterConfig
        from harness.inspection.recipe_keys import keys_of, markdown_page

        if markdown:
            print(markdown_page(RunConfig, FilterConfig), end="")
            return
        shown = [key for key in keys_of(RunConfig) if not words or any(word in key.path for word in words)]
        if not shown:
            raise ValueError(
                f"keys: got {', '.join(words or ())}, which is part of no key, expected for example training"
            )
        for key in shown:
            default = f", default {key.default}" if key.default not in ("", "required") else f" {key.default}".rstrip()
            print(f"{key.path}: {key.allowed}{default}\n    {key.text}")
