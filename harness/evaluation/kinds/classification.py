"""Classification: how well logistic regression, trained on a few embeddings, predicts the labels of test texts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from harness import comm
from harness.data.source.facts import FileFacts
from harness.data.source.whole import refuse_other_class_labels
from harness.evaluation.counts import Counts, only_nonzero, unused_columns
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.rows import file_called, labelled_texts
from harness.search.encode import EncodeTexts, encode_on_main

_EXPERIMENTS, _SAMPLES_PER_LABEL, _MAX_ITERATIONS, _SEED = 10, 8, 100, 42  # as in mteb's AbsTaskClassification


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """Labelled texts to train a classifier on, and to test it on."""

    train_texts: list[str]
    train_labels: list[str]
    test_texts: list[str]
    test_labels: list[str]
    counts: Counts = field(default_factory=dict, compare=False)


class Classification(Kind[ClassificationData]):
    data_type = ClassificationData
    unit = "test texts"
    metrics = ("accuracy", "f1")
    folder = "a classification folder (train and test: text, label)"

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """(training file, test file)."""
        train, test = file_called(path, "train"), file_called(path, "test")
        return (train, test) if train and test else None

    def load(self, train: Path, test: Path, cache: str | None = None) -> ClassificationData:
        refuse_other_class_labels((str(train), str(test)))
        train_texts, train_labels = labelled_texts(train, facts := FileFacts())
        test_texts, test_labels = labelled_texts(test, facts)
        if len(set(train_labels)) < 2:
            raise ValueError(f"{train}: got 1 label, expected at least 2 to tell apart")
        unseen = sum(label not in set(train_labels) for label in test_labels)
        counts = only_nonzero(test_texts_of_labels_without_training_text=unseen)
        counts |= unused_columns(facts.unused)
        return ClassificationData(train_texts, train_labels, test_texts, test_labels, counts)

    def num_rows(self, data: ClassificationData) -> int:
        return len(data.test_texts)

    def encode(self, encode: EncodeTexts, data: ClassificationData) -> Embeddings:
        """Embeddings of the training texts and of the test texts; zeros for training texts that are never drawn."""
        drawn = sorted({row for rows in training_samples(data.train_labels) for row in rows})
        texts = [*(data.train_texts[row] for row in drawn), *data.test_texts]
        both_ND = encode_on_main(encode, texts, "sentence")
        if not comm.is_main():
            return both_ND, both_ND
        train_ND = np.zeros((len(data.train_texts), both_ND.shape[1]), dtype=both_ND.dtype)
        train_ND[drawn] = both_ND[: len(drawn)]
        return train_ND, both_ND[len(drawn) :]

    def score(self, data: ClassificationData, train_ND: np.ndarray, test_ND: np.ndarray) -> dict[str, float]:
        return classification_scores(train_ND, data.train_labels, test_ND, data.test_labels)


def training_samples(labels: Sequence[str]) -> list[list[int]]:
    """The training rows of each of mteb's 10 classification experiments: 8 per label, drawn with mteb's seed."""
    order = list(range(len(labels)))
    experiments: list[list[int]] = []
    for _ in range(_EXPERIMENTS):
        # Every experiment applies the same permutation, as in mteb, to the order of the previous experiment.
        np.random.RandomState(_SEED).shuffle(order)
        num_drawn: dict[str, int] = {}
        drawn: list[int] = []
        for row in order:
            if num_drawn.get(labels[row], 0) < _SAMPLES_PER_LABEL:
                num_drawn[labels[row]] = num_drawn.get(labels[row], 0) + 1
                drawn.append(row)
        experiments.append(drawn)
    return experiments


def classification_scores(
    train_ND: np.ndarray, train_labels: Sequence[str], test_ND: np.ndarray, test_labels: Sequence[str]
) -> dict[str, float]:
    """Accuracy and macro F1 of logistic regression: means over the experiments of `training_samples`.

    Only the rows of `train_ND` that `training_samples(train_labels)` contains are used.
    """
    predicted = predicted_labels(train_ND, train_labels, test_ND)
    return {
        "accuracy": float(np.mean([accuracy_score(test_labels, found) for found in predicted])),
        "f1": float(np.mean([f1_score(test_labels, found, average="macro") for found in predicted])),
    }


def predicted_labels(train_ND: np.ndarray, train_labels: Sequence[str], test_ND: np.ndarray) -> list[np.ndarray]:
    """The labels that logistic regression gives the test texts, of each experiment of `training_samples`."""
    predicted = []
    for rows in training_samples(train_labels):
        classifier = LogisticRegression(max_iter=_MAX_ITERATIONS, random_state=_SEED)
        with warnings.catch_warnings():  # training stops after 100 iterations, as in mteb, often before convergence
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(train_ND[rows], [train_labels[row] for row in rows])
        predicted.append(classifier.predict(test_ND))
    return predicted
