"""`evaluate` and `mine`: as the commands of the same names, in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.api.rows_in_memory import evaluation_file
from harness.api.session import session
from harness.api.short_mistakes import with_short_mistakes
from harness.data.source.in_memory import is_rows, write_rows
from harness.data.source.locate import cache_root
from harness.prompts import PromptChoice

if TYPE_CHECKING:
    from harness.api.training import Training
    from harness.model_folder.pooling import PoolingMode

Place = str | os.PathLike[str]


@with_short_mistakes
def evaluate(
    model: Training | Place,
    data: Place | Sequence[Place] | Mapping[str, Any],
    *,
    dims: Sequence[int] | None = None,
    quantised: bool = False,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    precision: Literal["fp32", "bf16", "fp16", "bf16_weights"] = "fp32",
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    prompt_name: str | None = None,
    ignore_identical_ids: bool = False,
    output: Place | None = None,
    data_root: Place | None = None,
    trust_remote_code: bool = False,
    verbose: bool = False,
) -> dict[str, dict[str, float]]:
    """The scores of a model: data set → metric → value, as `harness evaluate` computes them.

    model: what `train` returned, a run folder, a checkpoint, a model folder, or a hub name.
    data: paths of evaluation data (docs/data.md), or `{NAME: rows in memory}`; rows of several splits as
        `{NAME: {"train": rows, "test": rows}}` or `{NAME: {"corpus": ..., "queries": ..., "qrels": ...}}`.
    output: a JSON file for the scores. The other arguments are the options of the command.

    Raises:
        ValueError: a model or data that cannot be read; one line.
    """
    if isinstance(data, Mapping):
        paths = [str(evaluation_file(name, rows, cache_root())) for name, rows in data.items()]
    else:
        paths = [os.fspath(path) for path in ([data] if isinstance(data, str | os.PathLike) else data)]
    with session(verbose):
        from harness.cli.evaluate import evaluate_model

        return evaluate_model(
            _model(model),
            paths,
            output=_path(output),
            max_length=max_length,
            pooling=pooling,
            dims=list(dims) if dims else None,
            quantised=quantised,
            data_root=_path(data_root),
            precision=precision,
            choice=PromptChoice(query_prompt, document_prompt, prompt_name),
            ignore_identical_ids=ignore_identical_ids,
            trust_remote_code=trust_remote_code,
        )


@with_short_mistakes
def mine(
    model: Training | Place,
    queries: Any,
    out: Place,
    *,
    corpus: Any = None,
    candidates: int = 100,
    relative: float | None = None,
    margin: float | None = None,
    index: Literal["exact", "ivf", "hnsw"] = "exact",
    cross_encoder: str | None = None,
    relabel: float | None = None,
    columns: Mapping[str, str | tuple[str, ...]] | None = None,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    precision: Literal["fp32", "bf16", "fp16", "bf16_weights"] = "fp32",
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    prompt_name: str | None = None,
    data_root: Place | None = None,
    trust_remote_code: bool = False,
    verbose: bool = False,
) -> Path:
    """Rank a corpus for every training query; returns the bank, for a task's `negatives.bank`.

    queries, corpus: a path, or rows in memory. The other arguments are the options of `harness mine`.

    Raises:
        ValueError: a model or data that cannot be read, or `out` holds a finished bank; one line.
    """
    places = [_file(queries, "queries"), None if corpus is None else _file(corpus, "corpus")]
    with session(verbose):
        from harness.cli.mine import mine_bank
        from harness.mining.config import MOST_CANDIDATES
        from harness.mining.mine import MineSettings

        if not 1 <= candidates <= MOST_CANDIDATES:
            raise ValueError(f"candidates: got {candidates:,}, expected 1 to {MOST_CANDIDATES:,} per query")
        mine_bank(
            _model(model),
            str(places[0]),
            corpus=places[1],
            out=Path(out),
            settings=MineSettings(candidates, relative, margin, index),
            columns=columns,
            max_length=max_length,
            pooling=pooling,
            data_root=_path(data_root),
            precision=precision,
            choice=PromptChoice(query_prompt, document_prompt, prompt_name),
            trust_remote_code=trust_remote_code,
            cross_encoder=cross_encoder,
            relabel=relabel,
        )
    return Path(out)


def _model(model: Training | Place) -> str:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else str(model.folder)


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _file(data: Any, name: str) -> str:
    return str(write_rows(data, name, cache_root(), name)) if is_rows(data) else os.fspath(data)
