"""`harness export`: a run's model as a folder for other libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import Verbose

_COMPARED_TEXTS = ("A text to compare.", "Another one, a little longer than the first.", "第三句话。", "x")


def export(
    run: Annotated[Path, typer.Argument(help="A run folder or one of its checkpoints.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; must not exist or be empty.")],
    verbose: Verbose = False,
) -> None:
    """Write a run's model as a sentence-transformers folder with a model card.

    The folder is loaded again with sentence-transformers and compared before the command says done.

    - `harness export runs/demo --out my_model`
    """
    with mistakes_in_one_line(verbose):
        export_run(run, out)


def export_run(run: Path, out: Path) -> None:
    """Write a run's (or a checkpoint's) model as a sentence-transformers folder, reload it and compare embeddings."""
    from rich.console import Console

    from harness.data.table.tokenisation import Tokeniser
    from harness.encoder.load import load_encoder
    from harness.run.export import export_model
    from harness.run.folder import RunFolder, model_folder

    if out.exists() and any(out.iterdir()):
        raise ValueError(f"--out: got {out}, which is not empty, expected a new folder")
    folder = RunFolder.containing(run)
    source = model_folder(str(run))
    config = folder.config.model.model_copy(update={"name_or_path": source})
    checkpoint = Path(source).parent / "state.json"
    step = int(json.loads(checkpoint.read_text())["step"]) if checkpoint.is_file() else None
    encoder, tokeniser = load_encoder(config).eval(), Tokeniser(source)
    difference = export_model(out, folder, encoder, tokeniser, model=config, step=step, check_texts=_COMPARED_TEXTS)
    Console().print(f"exported {out}: embeddings equal the training model's within {difference:.1e}", soft_wrap=True)
