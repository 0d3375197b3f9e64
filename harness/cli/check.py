"""`harness check`: do all ranks and hosts agree, before hours are spent?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import DataRoot, Overrides, Recipe, Verbose

if TYPE_CHECKING:
    from harness.config import LoadedRecipe


def check(
    recipe: Recipe,
    ranks: Annotated[int | None, typer.Option(min=1, metavar="W", help="How many ranks there must be.")] = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    verbose: Verbose = False,
) -> None:
    """Check a recipe and the hosts that will train it; loads no weights and trains nothing.

    Start it as the run: it compares versions, code, recipe, tokenizer and data of all ranks, tries the shared folder,
    disks and clocks, and times the network. A rank that differs is named with its host.

    - `harness check my_recipe.yaml`

    - `./launch.sh my_recipe.yaml --hostfile hosts --check`

    - `srun python -m harness check my_recipe.yaml --ranks 16`
    """
    with mistakes_in_one_line(verbose):
        from harness.config import load_recipe

        check_recipe_on_ranks(load_recipe(recipe, list(overrides or ()), data_root), ranks)


def check_recipe_on_ranks(loaded: LoadedRecipe, expected_ranks: int | None) -> None:
    """Do what `harness check` promises. Every rank must call it."""
    from harness import comm
    from harness.config import with_folder_prompts
    from harness.hosts import watch
    from harness.report.messages import say
    from harness.run.startup.check import check_inputs, check_ranks
    from harness.run.tasks import bank_hashes, check_machine, check_recipe, load_tokeniser, open_tasks

    watch.join(loaded.config.training.timeout)
    if expected_ranks not in (None, comm.world_size()):
        raise ValueError(f"--ranks: got {comm.world_size()} ranks, expected {expected_ranks}; see the launcher's flags")
    check_ranks(loaded, show=True)
    loaded = replace(loaded, config=with_folder_prompts(loaded.config))
    check_recipe(loaded, comm.world_size())
    check_machine(loaded)
    tokeniser = load_tokeniser(loaded.config.model)
    data = {task.config.name: task.data.content_hash for task in open_tasks(loaded, tokeniser)}
    check_inputs({"data": data, "banks": bank_hashes(loaded), "tokenizer": tokeniser.fingerprint})
    say(f"checked: recipe, data, tokenizer, output and {comm.world_size()} rank(s)")
    comm.shutdown()
