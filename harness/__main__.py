"""The program `harness`: composes the commands of `harness/cli/`. Started as `harness` or `python -m harness`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from harness.cli.check import check
from harness.cli.check_export import check_export
from harness.cli.evaluate import evaluate
from harness.cli.export import export
from harness.cli.filter import filter_
from harness.cli.mine import mine
from harness.cli.mistakes import run
from harness.cli.plan import plan
from harness.cli.report import report
from harness.cli.starting.convert import convert
from harness.cli.starting.init import init
from harness.cli.starting.keys import keys
from harness.cli.starting.launch import launch
from harness.cli.train import train
from harness.settings.version import __version__


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"harness {__version__}")
        raise typer.Exit


def root(
    local_rank: Annotated[int | None, typer.Option("--local_rank", "--local-rank", hidden=True)] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train text-embedding models with more and better negatives, on the GPUs you have.

    On several GPUs: `harness launch RECIPE ...`; in a checkout `./launch.sh RECIPE ...` does the same after installing.

    A mistake in a recipe or in data ends with one line and exit status 2; `HARNESS_DEBUG=1` adds the traceback.
    """
    if local_rank is not None:  # DeepSpeed's launcher passes this option before the subcommand
        os.environ.setdefault("LOCAL_RANK", str(local_rank))


app = typer.Typer(
    name="harness",
    callback=root,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("evaluate")(evaluate)
app.command("mine")(mine)
app.command("filter")(filter_)
app.command("export")(export)
app.command("check-export")(check_export)
app.command("report")(report)
app.command("plan")(plan)
app.command("check")(check)
app.command("init")(init)
app.command("convert")(convert)
app.command("keys")(keys)
app.command("launch", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(launch)


def main() -> None:
    """The entry point of `harness` and `python -m harness`."""
    run(app)


if __name__ == "__main__":
    main()
