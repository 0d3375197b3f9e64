"""Clustering: how well k-means on the embeddings recovers the groups given by the labels."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import v_measure_score

from harness.data.source.files import Row
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.rows import labelled_texts
from harness.search.encode import EncodeTexts, encode_each_once

CLUSTERING_TEXTS = 16_384  # the largest number of texts that are encoded (mteb's AbsTaskClusteringFast)
_CLUSTERINGS, _CLUSTERED, _CLUSTERING_BATCH, _SEED = 10, 2048, 512, 42  # as in mteb's AbsTaskClusteringFast


@dataclass(frozen=True, slots=True)
class ClusteringData:
    """Texts and their labels; texts with equal labels belong to one cluster."""

    texts: list[str]
    labels: list[str]


class Clustering(Kind[ClusteringData]):
    data_type = ClusteringData
    metrics = ("v_measure",)
    columns = "text, label"

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """A file only: labelled texts in a folder's test file are a classification whose training file is missing."""
        return None if path.is_dir() else super().files(path)

    def recognises(self, row: Row) -> bool:
        return "text" in row and "label" in row

    def load(self, file: Path) -> ClusteringData:
        texts, labels = labelled_texts(file)
        if len(set(labels)) < 2:
            raise ValueError(f"{file}: got 1 label, expected at least 2 to tell apart")
        return ClusteringData(texts, labels)

    def num_rows(self, data: ClusteringData) -> int:
        return len(data.texts)

    def encode(self, encode: EncodeTexts, data: ClusteringData) -> Embeddings:
        texts = [data.texts[row] for row in clustering_sample(len(data.texts))]
        return (encode_each_once(encode, texts, "sentence"),)

    def score(self, data: ClusteringData, embedding_ND: np.ndarray) -> dict[str, float]:
        return clustering_scores(embedding_ND, [data.labels[row] for row in clustering_sample(len(data.labels))])


def clustering_sample(num_texts: int) -> list[int]:
    """The positions of the texts to encode: all texts, or CLUSTERING_TEXTS texts drawn without replacement."""
    if num_texts <= CLUSTERING_TEXTS:
        return list(range(num_texts))
    return sorted(random.Random(_SEED).sample(range(num_texts), CLUSTERING_TEXTS))


def clustering_scores(embedding_ND: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """V-measure of k-means with as many clusters as labels: mean over 10 draws of 2,048 texts with replacement.

    V-measure: the harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg 2007).
    """
    generator, label_N = random.Random(_SEED), np.array(labels)
    scores = []
    for _ in range(_CLUSTERINGS):
        drawn = generator.choices(range(len(labels)), k=_CLUSTERED)
        clusters = MiniBatchKMeans(len(set(labels)), batch_size=_CLUSTERING_BATCH, n_init="auto", random_state=_SEED)
        with warnings.catch_warnings():  # k-means warns if a draw has fewer distinct texts than there are labels
            warnings.simplefilter("ignore", ConvergenceWarning)
            scores.append(v_measure_score(label_N[drawn], clusters.fit_predict(embedding_ND[drawn])))
    return {"v_measure": float(np.mean(scores))}
