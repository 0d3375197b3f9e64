"""Tasks of mteb on a few made-up texts, as a user defines them in a `--task-file`: no hub is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.text.reranking import AbsTaskReranking

_WORDS = [f"{a}{b}" for a in "abcdefgh" for b in ("ral", "tin", "mok", "sul", "ven", "dip")]


def text(seed: int, words: int = 5) -> str:
    return " ".join(np.random.RandomState(seed).choice(_WORDS, words))


def card(kind: str, name: str, main_score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name, description="made-up texts", type=kind, main_score=main_score, reference=None,
        dataset={"path": "local/local", "revision": "1"}, eval_langs=["eng-Latn"], eval_splits=["test"],
    )  # fmt: skip


def judged(ranked: bool) -> dict[str, Any]:
    """12 queries and 60 documents; a document has the words of its query and others."""
    queries = {f"q{i}": text(i, 4) for i in range(12)}
    documents = {f"d{i}": f"{text(i % 12, 4)} {text(900 + i, 3 + i % 7)}" for i in range(60)}
    return {
        "queries": Dataset.from_list([{"id": name, "text": words} for name, words in queries.items()]),
        "corpus": Dataset.from_list([{"id": n, "text": words, "title": "aral"} for n, words in documents.items()]),
        "relevant_docs": {f"q{i}": {f"d{i}": 2, f"d{i + 12}": 1, f"d{i + 13}": 0} for i in range(12)},
        "top_ranked": {f"q{i}": [f"d{(i + 5 * j) % 60}" for j in range(9)] + [f"d{i + 12}"] for i in range(12)}
        if ranked
        else None,
    }


class TinyRetrieval(AbsTaskRetrieval):
    metadata = card("Retrieval", "TinyRetrieval", "ndcg_at_10")

    def load_data(self, **_: Any) -> None:
        self.dataset, self.data_loaded = {"default": {"test": judged(ranked=False)}}, True


class TinyReranking(AbsTaskReranking):
    metadata = card("Reranking", "TinyReranking", "map_at_1000")

    def load_data(self, **_: Any) -> None:
        self.dataset, self.data_loaded = {"default": {"test": judged(ranked=True)}}, True


def pairs(labels: str, values: list[Any]) -> DatasetDict:
    firsts = [text(i) for i in range(len(values))]
    seconds = [f"{text(i, 2)} {text(i + i % 4, 3)}" for i in range(len(values))]
    return DatasetDict(test=Dataset.from_dict({"sentence1": firsts, "sentence2": seconds, labels: values}))


class TinySTS(AbsTaskSTS):
    metadata = card("STS", "TinySTS", "cosine_spearman")

    def load_data(self, **_: Any) -> None:
        self.dataset, self.data_loaded = pairs("score", [float(5 - i % 4) for i in range(40)]), True


class TinyPairs(AbsTaskPairClassification):
    metadata = card("PairClassification", "TinyPairs", "max_ap")

    def load_data(self, **_: Any) -> None:
        self.dataset, self.data_loaded = pairs("labels", [int(i % 4 < 2) for i in range(40)]), True


def labelled(number: int, first: int) -> dict[str, list[Any]]:
    return {
        "text": [f"{text(7000 + i % 3, 2)} {text(first + i, 4)}" for i in range(number)],
        "label": [i % 3 for i in range(number)],
    }


class TinyIntents(AbsTaskClassification):
    metadata = card("Classification", "TinyIntents", "accuracy")

    def load_data(self, **_: Any) -> None:
        splits = {name: Dataset.from_dict(labelled(n, n)) for name, n in (("train", 60), ("test", 33))}
        self.dataset, self.data_loaded = DatasetDict(**splits), True


class TinyClusters(AbsTaskClustering):
    metadata = card("Clustering", "TinyClusters", "v_measure")
    max_fraction_of_documents_to_embed = None
    max_document_to_embed = 2048

    def load_data(self, **_: Any) -> None:
        rows = labelled(48, 100)
        columns = {"sentences": rows["text"], "labels": rows["label"]}
        self.dataset, self.data_loaded = DatasetDict(test=Dataset.from_dict(columns)), True
