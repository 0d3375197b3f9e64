"""`harness check-export`: what each reader makes of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import Verbose

if TYPE_CHECKING:
    from harness.export.readers.verdict import Verdict

NOT_ALL_READ = 1  # a reader reads the folder wrongly or not


def check_export(
    folder: Annotated[Path, typer.Argument(help="An exported folder, a run, a checkpoint, or any model's folder.")],
    reader: Annotated[
        list[str] | None,
        typer.Option(help="Judge only for this reader, e.g. `text-embeddings-inference`. May be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    verbose: Verbose = False,
) -> None:
    """Say which programs read a model's folder rightly, wrongly or not, and why.

    Nothing of them is started: their reading is emulated, each as of the version that is named.

    Exit status 0: all read it rightly; 1: one reads it wrongly or not; 2: the folder cannot be judged.

    - `harness check-export my_model`
    - `harness check-export my_model --reader text-embeddings-inference --json`
    """
    with mistakes_in_one_line(verbose):
        from harness.export.readers import judge_folder, owner_only
        from harness.run.resuming.recognise import model_folder

        place = Path(model_folder(str(folder)))
        verdicts, closed = judge_folder(place, reader or ()), owner_only(place)
        warnings = [f"only their owner can read {', '.join(closed)}: chmod a+r"] if closed else []
        if as_json:
            found = {"folder": str(place), "readers": [one.as_json() for one in verdicts], "warnings": warnings}
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            _show(verdicts, warnings)
    if any(verdict.reads != "rightly" for verdict in verdicts):
        raise typer.Exit(NOT_ALL_READ)


def _show(verdicts: list[Verdict], warnings: list[str]) -> None:
    """A line per reader, the reasons and notes below it."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    width = max(len(verdict.reader.name) for verdict in verdicts)
    for verdict in verdicts:
        reader = verdict.reader
        console.print(f"{reader.name:<{width}}  {verdict.reads:<7}  {reader.version}", soft_wrap=True)
        for line in (*verdict.reasons, *(f"note: {note}" for note in verdict.notes)):
            console.print(f"{'':<{width}}    {line}", soft_wrap=True)
        console.print(f"{'':<{width}}    source: {reader.source}", style="dim", soft_wrap=True)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
