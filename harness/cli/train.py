"""`harness train`: from a recipe to a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import DataRoot, Overrides, Recipe, Verbose


def train(
    recipe: Recipe,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder (default: the recipe's `output`, or runs/NAME).")
    ] = None,
    recipe_folder: Annotated[
        Path | None, typer.Option(hidden=True, help="Where relative paths are looked up, in place of the recipe's.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Train, evaluate and export: the run folder holds the result.

    A run that was stopped continues from its newest whole checkpoint; one that is finished prints its table.

    - `harness train demo`

    - `harness train demo --set training.steps=100 --set training.seed=1 --output runs/longer`

    - `harness train my_recipe.yaml --data-root ~/data`
    """
    with mistakes_in_one_line(verbose):
        from harness.config import load_recipe

        changes = list(overrides or ())
        if output is not None:
            changes.append(f"output={json.dumps(str(output))}")
        loaded = load_recipe(recipe, changes, data_root, recipe_folder)
        from harness import trainer  # imported late, so that a mistake in the recipe is reported before torch loads

        trainer.train(loaded)
