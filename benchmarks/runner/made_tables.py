"""Tables of data made of numbers: two texts are one if their numbers are equal. They have no words and no files."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from harness.data.config import NegativesConfig, TaskConfig
from harness.data.plan.task import Task
from harness.data.pseudo_random import mix64
from harness.data.table.index import TaskData
from harness.types import TaskKind

_MAX_LENGTH = 512  # tokens


def made_task(
    name: str,
    kind: TaskKind,
    number_RT: np.ndarray,
    quota: int,
    *,
    label_R: np.ndarray | None = None,
    negatives: NegativesConfig | None = None,
    **options: Any,
) -> Task:
    """A task over rows of equally many texts: a query, a positive and negatives, or what `kind` has instead.

    number_RT: the number of each text. label_R: of a classification task. options: further keys of the task.
    """
    data = _data(name, kind, number_RT, label_R)
    config = TaskConfig(
        name=name, kind=kind, path="made", quota=quota, negatives=negatives or NegativesConfig(), **options
    )
    bank = None
    if kind == "retrieval":
        bank = BankHistory(NegativeBank(data.num_rows, ListedCandidates(data), config.negatives.per_query))
    return Task(config, data, bank, _MAX_LENGTH, _MAX_LENGTH)


def _data(name: str, kind: TaskKind, number_RT: np.ndarray, label_R: np.ndarray | None) -> TaskData:
    num_rows, texts_per_row = number_RT.shape
    number_G = number_RT.ravel()
    first_R = np.arange(num_rows + 1, dtype=np.int64) * texts_per_row
    raw_G, token_G = mix64(number_G, 1), mix64(number_G, 2)
    raw_order_R, token_order_R = (np.argsort(hash_G[first_R[:-1]], kind="stable") for hash_G in (raw_G, token_G))
    labels: dict[str, Any] = {}
    if label_R is not None:
        end_C = np.cumsum(np.bincount(label_R))
        labels = {
            "label_R": label_R.astype(np.int32),
            "label_order_R": np.argsort(label_R, kind="stable"),
            "label_start_C1": np.concatenate([[0], end_C]),
            "label_names": tuple(map(str, range(len(end_C)))),
        }
    return TaskData(
        name=name,
        kind=kind,
        path="made",
        num_rows=num_rows,
        num_texts=len(number_G),
        content_hash="",
        row_start_R1=first_R,
        num_positives_R=np.full(num_rows, int(kind == "retrieval"), dtype=np.int32),
        line_R=np.arange(1, num_rows + 1),
        text_hash_G=raw_G,
        token_hash_G=token_G,
        length_G=(4 + mix64(number_G, 3) % np.uint64(124)).astype(np.int32),
        role_G=np.zeros(len(number_G), dtype=np.uint8),
        sorted_query_hash_R=raw_G[first_R[:-1]][raw_order_R],
        sorted_query_row_R=raw_order_R,
        sorted_query_token_hash_R=token_G[first_R[:-1]][token_order_R],
        sorted_query_token_row_R=token_order_R,
        score_R=mix64(np.arange(num_rows), 4).astype(np.float32) if kind == "sts" else None,
        **labels,
    )
