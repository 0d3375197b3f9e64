"""`harness launch`: what launch.sh does after the installation, for those who have installed a wheel."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line


def launch(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe of this package or a YAML file.")],
    ranks: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: one per GPU, or two that share the cores).")
    ] = None,
    restarts: Annotated[int, typer.Option(min=0, help="Start again, at most so often, after a stop or a crash.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Check recipe and hosts; train nothing.")] = False,
) -> None:
    """Train a recipe on all GPUs of this host, or on several hosts with DeepSpeed's flags.

    Takes `--set`, `--data-root`, `--output` and `--verbose` of `harness train`; all other options go to DeepSpeed's
    launcher, such as `--include localhost:0,1` and `--hostfile FILE`.

    - `harness launch my_recipe.yaml`

    - `harness launch my_recipe.yaml --ranks 4 --set training.seed=1 --restarts 3`
    """
    with mistakes_in_one_line(verbose=False):
        from harness.hosts.launch_command import launch_command

        words, variables = launch_command([recipe, *context.args], ranks, restarts, os.environ, is_check=check)
        sys.stdout.flush()
        os.execve(words[0], words, {**os.environ, **variables})
