"""mteb's own tasks on given vectors: what it would report for a model that embeds a text by the vector in a table.

Only mteb's reading of its hub is replaced; encoding, sampling, search and metrics are its own code.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.text import reranking
from mteb.similarity_functions import cos_sim, pairwise_cos_sim

Table = Mapping[str, np.ndarray]  # text → vector


class TableEncoder:
    """An mteb encoder that looks its vectors up, float32."""

    mteb_model_meta = None

    def __init__(self, table: Table) -> None:
        self.table = table

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        texts = [text for batch in inputs for text in batch["text"]]
        return np.stack([self.table[text] for text in texts]).astype(np.float32)

    def similarity(self, left: Any, right: Any) -> torch.Tensor:
        return cos_sim(left, right)

    def similarity_pairwise(self, left: Any, right: Any) -> torch.Tensor:
        return pairwise_cos_sim(left, right)


def metadata(kind: str, main_score: str) -> TaskMetadata:
    return TaskMetadata(
        name=f"Local{kind}", description="vectors of a test", type=kind, main_score=main_score, reference=None,
        dataset={"path": "local/local", "revision": "1"}, eval_langs=["eng-Latn"], eval_splits=["test"],
    )  # fmt: skip


class Unrounded:
    """Keeps what mteb's report rounds to 5 decimals: it hands the scores of every query to this method."""

    def task_specific_scores(self, scores: Mapping[str, Mapping[str, float]], *_: Any, **__: Any) -> dict[str, float]:
        found = {}
        for name in next(iter(scores.values())):
            mean = float(np.mean([row[name] for row in scores.values()]))
            found[name.replace("_cut_", "_at_").replace("recall_", "recall_at_")] = mean
        return found


class LocalRetrieval(Unrounded, AbsTaskRetrieval):
    metadata = metadata("Retrieval", "ndcg_at_10")


class LocalReranking(Unrounded, reranking.AbsTaskReranking):
    metadata = metadata("Reranking", "map_at_1000")


class LocalSTS(AbsTaskSTS):
    metadata = metadata("STS", "cosine_spearman")


class LocalPairClassification(AbsTaskPairClassification):
    metadata = metadata("PairClassification", "max_ap")


class LocalClassification(AbsTaskClassification):
    metadata = metadata("Classification", "accuracy")


class LocalClustering(AbsTaskClustering):
    """As most of mteb's tasks: at most 2,048 texts are embedded."""

    metadata = metadata("Clustering", "v_measure")
    max_fraction_of_documents_to_embed = None
    max_document_to_embed = 2048


def scores(task: Any, table: Table, dataset: Any) -> dict[str, Any]:
    """What mteb reports for the task on this data set with these vectors."""
    task.dataset, task.data_loaded = dataset, True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = task.evaluate(TableEncoder(table), "test", encode_kwargs={"show_progress_bar": False})
    return found["default"]


def retrieval(
    table: Table,
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    ignore_identical_ids: bool = False,
) -> dict[str, Any]:
    task = LocalRetrieval()
    task.ignore_identical_ids = ignore_identical_ids
    data = {
        "queries": Dataset.from_list([{"id": name, "text": text} for name, text in queries.items()]),
        "corpus": Dataset.from_list([{"id": name, "text": text, "title": ""} for name, text in documents.items()]),
        "relevant_docs": {query: dict(grades) for query, grades in qrels.items()},
        "top_ranked": None,
    }
    return scores(task, table, {"default": {"test": data}})


def rerank(table: Table, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """rows: query, positive, negative, as mteb's own data sets for reranking hold them."""
    task = LocalReranking()
    reranking.OLD_FORMAT_RERANKING_TASKS.append(task.metadata.name)
    try:
        task.transform_old_dataset_format({"default": {"test": Dataset.from_list(list(rows))}})
    finally:
        reranking.OLD_FORMAT_RERANKING_TASKS.remove(task.metadata.name)
    return scores(task, table, task.dataset)


def sts(table: Table, texts1: Sequence[str], texts2: Sequence[str], grades: Sequence[float]) -> dict[str, Any]:
    columns = {"sentence1": list(texts1), "sentence2": list(texts2), "score": list(grades)}
    return scores(LocalSTS(), table, DatasetDict(test=Dataset.from_dict(columns)))


def pair_classification(
    table: Table, texts1: Sequence[str], texts2: Sequence[str], same: Sequence[bool]
) -> dict[str, Any]:
    columns = {"sentence1": list(texts1), "sentence2": list(texts2), "labels": [int(label) for label in same]}
    return scores(LocalPairClassification(), table, DatasetDict(test=Dataset.from_dict(columns)))


def classification(
    table: Table, train: tuple[Sequence[str], Sequence[Any]], test: tuple[Sequence[str], Sequence[Any]]
) -> dict[str, Any]:
    """train, test: (texts, labels)."""
    splits = {
        name: Dataset.from_dict({"text": list(texts), "label": list(labels)})
        for name, (texts, labels) in (("train", train), ("test", test))
    }
    return scores(LocalClassification(), table, DatasetDict(**splits))


def clustering(table: Table, texts: Sequence[str], labels: Sequence[Any], *, drawn: bool) -> dict[str, Any]:
    """drawn: of the texts, 2,048 are drawn, in the order of the draw; otherwise all are embedded, in their order."""
    task = LocalClustering()
    if not drawn:
        task.max_document_to_embed = None
    columns = {"sentences": list(texts), "labels": list(labels)}
    return scores(task, table, DatasetDict(test=Dataset.from_dict(columns)))
