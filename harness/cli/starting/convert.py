"""`harness convert`: FlagEmbedding's, sentence-transformers' or Tevatron's arguments as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.mistakes import mistakes_in_one_line

if TYPE_CHECKING:
    from harness.conversion.convert import Converted


def convert(
    arguments: Annotated[
        list[str],
        typer.Argument(help="A .json, .py or .sh file with the arguments, or the command line itself after `--`."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Write the recipe here (default: print it).")
    ] = None,
    source: Annotated[
        Literal["FlagEmbedding", "sentence-transformers", "Tevatron"] | None,
        typer.Option("--from", help="Whose arguments they are, where that is not clear."),
    ] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="GPUs that the other trainer ran on.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.yaml if it is there.")] = False,
) -> None:
    """Turn another trainer's arguments into a recipe, and say of each what it is here.

    Every argument that has no counterpart, or another meaning, is named with the reason, on stderr and at the head of
    the recipe. docs/coming_from.md has the tables.

    - `harness convert finetune.sh --out recipe.yaml`

    - `harness convert train.py`

    - `harness convert -- torchrun --nproc_per_node 8 -m FlagEmbedding.finetune.embedder.encoder_only.base ...`
    """
    with mistakes_in_one_line(verbose=False):
        from harness.conversion.convert import convert as convert_given
        from harness.conversion.given.read import read_given

        _check_free(out, overwrite)
        _write(convert_given(read_given(arguments, source), ranks), " ".join(arguments)[:200], out)


def _check_free(out: Path | None, overwrite: bool) -> None:
    if out is not None and out.exists() and not overwrite:
        raise ValueError(f"--out: got {out}, which exists, expected a new file; add --overwrite to replace it")


def _write(converted: Converted, source: str, out: Path | None) -> None:
    """Print or write the recipe with its remarks, after a check that it is one."""
    import sys

    from harness.config import check_tree, dump_tree
    from harness.conversion.convert import beside
    from harness.files import replace_file

    if out is not None:
        beside(converted.tree, out.parent)
    to_say = [str(remark) for remark in converted.remarks if remark.verdict != "same"]
    text = "\n".join([f"# Converted from: {source}", *(f"#   {line}" for line in to_say), dump_tree(converted.tree)])
    check_tree(converted.tree, "the converted recipe", Path())
    for line in to_say:
        print(line, file=sys.stderr)
    if out is None:
        print(text, end="")
    else:
        replace_file(out, text)
        ranks = f" --ranks {converted.ranks}" if converted.ranks else ""
        print(f"{out}: {len(converted.tree['tasks'])} task(s); next: harness plan {out}{ranks}")
