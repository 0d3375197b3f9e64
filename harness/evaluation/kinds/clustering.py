"""Clustering: how well k-means on the embeddings recovers the groups given by the labels."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import v_measure_score

from harness.data.source.files import Row
from harness.evaluation.counts import Counts, note_unused, only_nonzero, unused_columns
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.rows import MISSING, bad_field, read_rows, text_field
from harness.search.encode import EncodeTexts, encode_on_main

# As in mteb's AbsTaskClustering, with the number of texts that most of its tasks embed.
CLUSTERING_TEXTS = 2048
_CLUSTERINGS, _DRAWN, _BATCH, _SEED = 10, 16_384, 512, 42
Label = str | tuple[str, ...]  # a tuple: the labels of a hierarchy, from the coarsest level on


@dataclass(frozen=True, slots=True)
class ClusteringData:
    """Texts and their labels; texts with equal labels belong to one cluster."""

    texts: list[str]
    labels: list[Label]
    counts: Counts = field(default_factory=dict, compare=False)


class Clustering(Kind[ClusteringData]):
    data_type = ClusteringData
    unit = "texts"
    metrics = ("v_measure",)
    columns = "text, label"

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """A file only: labelled texts in a folder's test file are a classification whose training file is missing."""
        return None if path.is_dir() else super().files(path)

    def recognises(self, row: Row) -> bool:
        return _columns(row) is not None

    def load(self, file: Path, cache: str | None = None) -> ClusteringData:
        """Read the data; the columns are text and label, or sentences and labels as in mteb's data sets."""
        data, unused = ClusteringData([], []), Counter[str]()
        for line, row in read_rows(file):
            text, label = _columns(row) or ("text", "label")
            data.texts.append(text_field(file, line, row, text))
            data.labels.append(_label(file, line, label, row.get(label, MISSING)))
            note_unused(unused, row, (text, label))
            if num_levels(data.labels[-1]) != num_levels(data.labels[0]):
                expected = f"{num_levels(data.labels[0])} levels as in the first row"
                raise bad_field(file, line, label, row[label], expected)
        if len(set(data.labels)) < 2:
            raise ValueError(f"{file}: got {len(set(data.labels))} label, expected at least 2 to tell apart")
        data.counts.update(only_nonzero(texts_not_drawn=max(0, len(data.texts) - CLUSTERING_TEXTS)))
        data.counts.update(unused_columns(unused))
        return data

    def num_rows(self, data: ClusteringData) -> int:
        return len(data.texts)

    def encode(self, encode: EncodeTexts, data: ClusteringData) -> Embeddings:
        texts = [data.texts[row] for row in clustering_sample(len(data.texts))]
        return (encode_on_main(encode, texts, "sentence"),)

    def score(self, data: ClusteringData, embedding_ND: np.ndarray) -> dict[str, float]:
        generator = random.Random(_SEED)
        labels = [data.labels[row] for row in clustering_sample(len(data.labels), generator)]
        return clustering_scores(embedding_ND, labels, generator)


def clustering_sample(num_texts: int, generator: random.Random | None = None) -> list[int]:
    """The positions of the texts to encode: all in their order, or CLUSTERING_TEXTS drawn as mteb draws them."""
    if num_texts <= CLUSTERING_TEXTS:
        return list(range(num_texts))
    return (generator or random.Random(_SEED)).sample(range(num_texts), CLUSTERING_TEXTS)


def clustering_scores(
    embedding_ND: np.ndarray, labels: Sequence[Label], generator: random.Random | None = None
) -> dict[str, float]:
    """V-measure of k-means with as many clusters as labels: mean over 10 draws of 16,384 rows with replacement.

    Equal to mteb's `_evaluate_clustering_bootstrapped`. With a hierarchy: mean over the draws of all levels. generator:
    draws the rows; None: mteb's at its start. V-measure: the harmonic mean of homogeneity and completeness (Rosenberg
    and Hirschberg 2007).
    """
    generator = generator or random.Random(_SEED)
    scores = []
    for level in range(num_levels(labels[0])):
        label_N = np.array([label if isinstance(label, str) else label[level] for label in labels])
        clusters = MiniBatchKMeans(np.unique(label_N).size, batch_size=_BATCH, n_init=1, random_state=_SEED)
        for _ in range(_CLUSTERINGS):
            drawn = generator.choices(range(len(labels)), k=_DRAWN)
            with warnings.catch_warnings():  # k-means warns if there are fewer distinct texts than labels
                warnings.simplefilter("ignore", ConvergenceWarning)
                scores.append(v_measure_score(label_N[drawn], clusters.fit_predict(embedding_ND[drawn])))
    return {"v_measure": float(np.mean(scores))}


def num_levels(label: Label) -> int:
    """The number of levels of a label."""
    return 1 if isinstance(label, str) else len(label)


def _columns(row: Row) -> tuple[str, str] | None:
    """The names of the columns of texts and labels; None if they are not there."""
    return next((names for names in (("text", "label"), ("sentences", "labels")) if set(names) <= row.keys()), None)


def _label(file: Path, line: int, name: str, value: Any) -> Label:
    levels = value if isinstance(value, list) and value else [value]
    for level in levels:
        if not isinstance(level, str | int) or isinstance(level, bool) or level == "":
            raise bad_field(file, line, name, value, "a text or a whole number, or a list of them: a level each")
    return str(levels[0]) if len(levels) == 1 else tuple(map(str, levels))
