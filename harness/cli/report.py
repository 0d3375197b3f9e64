"""`harness report`: the page and the figures of one run, or of several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import Verbose

_LONGEST_FOLDER_NAME = 100  # characters


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.", metavar="RUN...")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write (default: the run's own; one beside the first of many)"),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Draw what runs have recorded: report.html, which needs nothing but itself, and figures/*.png.

    Several runs stand side by side in the same axes; runs that differ in the seed only, as their mean and spread.

    - `harness report runs/demo`

    - `harness report runs/static runs/dynamic --out runs/comparison`
    """
    with mistakes_in_one_line(verbose):
        draw_report(runs, out)


def draw_report(runs: list[Path], out: Path | None) -> None:
    """Write report.html and figures/ for one run, or for several side by side."""
    from rich.console import Console

    from harness.files import check_output
    from harness.ownership.claim import refuse_foreign
    from harness.report.page import is_report, write_report
    from harness.run.folder import RunFolder
    from harness.run.resuming.recognise import is_run_folder

    folders = [RunFolder.containing(run) for run in runs]
    if out is None and len(folders) == 1:
        out = folders[0].path
    elif out is None:
        names = [folder.path.absolute().name for folder in folders]
        out = folders[0].path.absolute().parent / "-".join(["report", *names])[:_LONGEST_FOLDER_NAME]
    if not is_run_folder(out):
        refuse_foreign(out, "--out", "a folder that harness report wrote", is_report)
    check_output(out, "--out")
    page = write_report([folder.history() for folder in folders], out)
    Console().print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
