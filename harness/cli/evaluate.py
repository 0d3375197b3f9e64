"""`harness evaluate`: the scores of a model on local data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import DataRoot, MaxLength, Model, Pooling, Precision, Verbose, existing_path
from harness.model_folder.pooling import PoolingMode


def evaluate(
    model: Model,
    data: Annotated[
        list[str],
        typer.Argument(help="Files and folders as docs/data.md lists them, or names under --data-root."),
    ],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the scores as JSON, too.")] = None,
    max_length: MaxLength = None,
    pooling: Pooling = None,
    dims: Annotated[
        list[int] | None,
        typer.Option("--dim", min=1, help="Score the first so many dimensions, too (Matryoshka). May be repeated."),
    ] = None,
    precision: Precision = "fp32",
    data_root: DataRoot = None,
    verbose: Verbose = False,
) -> None:
    """Score a model on local data: retrieval, reranking, STS, pair classification, classification, clustering.

    JSON: `{"datasets": {NAME: {"ndcg_at_10": ..., "spearman": ..., "accuracy": ...}}}`, each with its kind's metrics.

    - `harness evaluate runs/demo data/retrieval/my_questions`

    - `harness evaluate demo-minilm sts/stsb_en/test.jsonl.gz --data-root ~/data --output scores.json`
    """
    with mistakes_in_one_line(verbose):
        evaluate_model(
            model,
            data,
            output=output,
            max_length=max_length,
            pooling=pooling,
            dims=dims,
            data_root=data_root,
            precision=precision,
        )


def evaluate_model(
    model: str,
    data: list[str],
    *,
    output: Path | None = None,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    dims: list[int] | None = None,
    data_root: Path | None = None,
    precision: str = "fp32",
) -> dict[str, dict[str, float]]:
    """Score a run folder, a checkpoint, or any Hugging Face or sentence-transformers model; print a table.

    Under the launcher, each rank encodes a part of the texts. `output`: a JSON file
    `{"model": ..., "datasets": {NAME: {METRIC: value}}}` with mteb's metric names.
    """
    from rich.console import Console

    from harness import comm
    from harness.cli.opened_model import open_model
    from harness.evaluation.results import results_table
    from harness.evaluation.runner import evaluate

    if "RANK" in os.environ:
        comm.initialise()
    opened = open_model(model, max_length, pooling, precision)
    results = evaluate(opened.encode, [existing_path(path, data_root) for path in data], dims)
    if comm.is_main():
        Console().print(results_table(results))
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps({"model": model, "datasets": results}, indent=2) + "\n")
    comm.shutdown()
    return results
