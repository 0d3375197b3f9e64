"""`harness export`: a run's model as a folder for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import TrustRemoteCode, Verbose

_COMPARED_TEXTS = ("A text to compare.", "Another one, a little longer than the first.", "第三句话。", "x")


def export(
    run: Annotated[Path, typer.Argument(help="A run folder or one of its checkpoints.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; must not exist or be empty.")],
    trust_remote_code: TrustRemoteCode = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's model as a sentence-transformers folder with a model card.

    The folder is loaded again with sentence-transformers and compared before the command says done.

    - `harness export runs/demo --out my_model`
    """
    with mistakes_in_one_line(verbose):
        export_run(run, out, trust_remote_code=trust_remote_code)


def export_run(run: Path, out: Path, *, trust_remote_code: bool = False) -> None:
    """Write a run's (or a checkpoint's) model as a sentence-transformers folder, reload it and compare embeddings."""
    from rich.console import Console

    from harness.data.table.tokenisation import Tokeniser
    from harness.encoder.load import load_encoder
    from harness.encoder.partial.config import FreezeSettings
    from harness.engine.checkpoint import STATE, read_state
    from harness.files import check_output
    from harness.model_folder.preflight import COMMAND_LINE, Preflight
    from harness.run.export import export_model
    from harness.run.folder import RunFolder
    from harness.run.resuming.recognise import model_folder
    from harness.run.tasks import BYTES_OF_EXPORT

    check_output(out, "--out")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"--out: got {out}, which is not empty, expected a new or empty folder; name another one")
    folder = RunFolder.containing(run)
    source = model_folder(str(run))
    trust = trust_remote_code or folder.config.model.trust_remote_code
    # The comparison runs on the CPU, whatever the run has trained on.
    changes = {
        "name_or_path": source,
        "trust_remote_code": trust,
        "attention": "auto",
        "lora": None,  # a checkpoint's model/ holds the trained adapter, a finished run's holds it merged
        "freeze": FreezeSettings(),
    }
    config = folder.config.model.model_copy(update=changes)
    num_weights = Preflight(source, COMMAND_LINE, trust, longest_text=config.longest_text).check()
    check_output(out, "--out", BYTES_OF_EXPORT * num_weights)
    checkpoint = Path(source).parent
    step = int(read_state(checkpoint)["step"]) if (checkpoint / STATE).is_file() else None
    encoder, tokeniser = load_encoder(config).eval(), Tokeniser(source, trust)
    difference = export_model(out, folder, encoder, tokeniser, model=config, step=step, check_texts=_COMPARED_TEXTS)
    Console().print(f"exported {out}: embeddings equal the training model's within {difference:.1e}", soft_wrap=True)
