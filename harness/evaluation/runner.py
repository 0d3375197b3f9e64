"""Scores embeddings on evaluation data: loads the data, encodes its texts, searches if needed, computes the metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness import rank0
from harness.data.source.locate import dataset_name
from harness.evaluation.counts import count_lines
from harness.evaluation.datasets import data_files
from harness.evaluation.kinds.kind import Embeddings
from harness.evaluation.kinds.retrieval import Retrieval, RetrievalData
from harness.evaluation.kinds.table import KINDS, EvaluationData, kind_of
from harness.export.formats.sizes import QUANTISED, quantised_name
from harness.prompts import ModelPrompts, PromptChoice, Prompts
from harness.prompts.model_prompts import has_pairs
from harness.search.encode import EncodeTexts, TextEncoder
from harness.waits import waits

_CHECKED_ROWS = 65_536  # at a time
Results = dict[str, dict[str, float]]  # data set → metric → value; NaN (null in files): not defined


@dataclass(frozen=True, slots=True)
class LoadedData:
    """Evaluation data sets in memory, by name, and facts about each data set.

    facts: `name`, `path`, `kind`, `rows` (number of scored queries, pairs, texts or test rows), `hash` (SHA-256 over
    its files), `counts` (what was left out or read leniently: see `harness.evaluation.counts`), `prompts` (role → text)
    once they are chosen.
    prompts: those of each data set, by name; empty: those of the encoder.
    """

    data: dict[str, EvaluationData]
    facts: list[dict[str, Any]]
    prompts: Mapping[str, Prompts] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, str]:
        """Name → kind of each data set."""
        return {fact["name"]: fact["kind"] for fact in self.facts}

    def with_prompts(self, model: ModelPrompts, choices: Sequence[PromptChoice]) -> LoadedData:
        """A copy in which every data set has its prompts: the model's, or what its entry of `choices` asks for.

        Raises:
            ValueError: the model has no prompt of the name that is asked for, or data without documents has a document
                prompt.
        """
        kinds = self.kinds
        prompts = {name: model.chosen(kinds[name], choice) for name, choice in zip(kinds, choices, strict=True)}
        by_role = {name: prompts[name].by_role(pairs=has_pairs(kind)) for name, kind in kinds.items()}
        return replace(self, facts=[{**f, "prompts": by_role[f["name"]]} for f in self.facts], prompts=prompts)

    def count_lines(self) -> list[tuple[bool, str]]:
        """(whether it is a warning, line): what each data set holds, and what was left out or read leniently."""
        lines = []
        for fact in self.facts:
            kind, unit = str(fact["kind"]).replace("_", " "), KINDS[fact["kind"]].unit
            lines += [(False, f"{fact['name']}: {kind}, {unit}: {fact['rows']:,}")]
            lines += count_lines(fact["name"], fact["counts"])
        return lines

    def one_by_one(self) -> Iterator[tuple[str, LoadedData]]:
        """Each data set alone, with its name."""
        for fact in self.facts:
            name = fact["name"]
            yield name, LoadedData({name: self.data[name]}, [fact], self.prompts)


def load(paths: Sequence[str], *, ignore_identical_ids: bool = False, cache: str | None = None) -> LoadedData:
    """Read and check all data sets, and collect the facts about them. Every rank must call this.

    ignore_identical_ids: no query ranks the document with its id, even if their texts differ. cache: the folder for
    derived files, in which the documents of retrieval data are kept; None: the user's cache folder.

    Raises:
        ValueError: a data set cannot be read, or is given twice.
    """
    data: dict[str, EvaluationData] = {}
    facts = []
    for name, path in zip(dataset_name(paths), paths, strict=True):
        kind, files = data_files(path)
        dataset: EvaluationData = KINDS[kind].load(*files, cache=cache)
        if ignore_identical_ids and isinstance(dataset, RetrievalData):
            dataset = Retrieval().without_identical_ids(dataset)
        data[name] = dataset
        num_rows, counts = KINDS[kind].num_rows(dataset), dict(dataset.counts)
        digest = rank0.by_main(partial(_hash, files))
        facts.append({"name": name, "path": path, "kind": kind, "rows": num_rows, "hash": digest, "counts": counts})
    return LoadedData(data, facts)


def _hash(files: Sequence[Path]) -> str:
    """SHA-256 of one file, or of the concatenated digests of several files."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


@waits.may_take_long()
def evaluate(
    encode: EncodeTexts,
    data: LoadedData | Sequence[str],
    matryoshka_dims: Sequence[int] | None = None,
    *,
    quantised: bool = False,
) -> Results:
    """Metrics of every data set (loaded, or given as paths): `{data set: {metric: value}}`, with mteb's metric names.

    `encode(texts, role)` returns float32 [N, D]. Texts that are neither queries nor documents have the role `sentence`.
    The ranks of a `TextEncoder` share the work; a plain function computes what the calling rank needs. If the data has
    prompts (`with_prompts`), `encode` must be a `TextEncoder`, which puts them before the texts. All ranks search, rank
    0 computes the metrics, and all ranks return them. With `matryoshka_dims` the main metric is also computed for each
    prefix of the same embeddings, as `METRIC@DIM` (`ndcg_at_10@128`); prefixes are normalised. With `quantised` each of
    these sizes, and the whole, is scored in int8 and in binary, too, as `METRIC@DIM_int8`.

    Raises:
        ValueError: a data set cannot be read, an embedding is not finite, or a Matryoshka dim is larger than D.
    """
    loaded = data if isinstance(data, LoadedData) else load(data)
    results = {}
    for name, dataset in loaded.data.items():
        own_encode = encode
        if name in loaded.prompts:
            assert isinstance(encode, TextEncoder)
            own_encode = encode.with_prompts(loaded.prompts[name])
        results[name] = _evaluate_one(own_encode, name, dataset, matryoshka_dims or (), quantised)
    return results


def _evaluate_one(
    encode: EncodeTexts, name: str, data: EvaluationData, matryoshka_dims: Sequence[int], quantised: bool
) -> dict[str, float]:
    kind = kind_of(data)
    embeddings = kind.encode(encode, data)
    rank0.by_each(lambda: _check(name, embeddings, matryoshka_dims))
    metrics = kind.scores(data, embeddings)
    main = kind.main_metric
    for dim in matryoshka_dims:
        is_prefix = dim < embeddings[0].shape[1]
        metrics[f"{main}@{dim}"] = kind.scores(data, embeddings, dim)[main] if is_prefix else metrics[main]
    for dim in sorted({*matryoshka_dims, embeddings[0].shape[1]}) if quantised else ():
        for precision in QUANTISED:
            score = kind.quantised_scores(data, embeddings, precision, dim)[main]
            metrics[quantised_name(main, dim, precision)] = score
    return metrics


def _check(name: str, embeddings: Embeddings, matryoshka_dims: Sequence[int]) -> None:
    """Refuse embeddings that are not finite, and Matryoshka prefixes longer than the embeddings."""
    blocks = ((table_ND, first) for table_ND in embeddings for first in range(0, len(table_ND), _CHECKED_ROWS))
    if not all(np.isfinite(table_ND[first : first + _CHECKED_ROWS]).all() for table_ND, first in blocks):
        raise ValueError(
            f"{name}: got embeddings with inf or nan, expected finite numbers; lower training.learning_rate "
            "or set training.precision: fp32"
        )
    width = embeddings[0].shape[1]
    for dim in matryoshka_dims:
        if not 1 <= dim <= width:
            raise ValueError(
                f"{name}: got Matryoshka dim {dim}, expected 1 to {width}; set model.matryoshka_dims (--dim) to "
                "match the model"
            )
