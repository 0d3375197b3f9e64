"""Turns the plan's text ids into the token batches of this rank. No other part of a step reads texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.plan.task import Task, text_sources
from harness.data.table.tokenisation import Tokeniser
from harness.types import ROLES, PromptedText, StepPlan, StepTexts, TokenBatch


def token_batches(
    plan: StepPlan, micro_batches: Sequence[np.ndarray], tasks: Sequence[Task], tokeniser: Tokeniser
) -> list[TokenBatch]:
    """One padded batch per micro-batch; an empty micro-batch gives a dummy of one padding token."""
    return [tokeniser.pad(_token_ids(plan.texts, rows, tasks, tokeniser)).packed() for rows in micro_batches]


def _token_ids(texts: StepTexts, row_M: np.ndarray, tasks: Sequence[Task], tokeniser: Tokeniser) -> list[list[int]]:
    """Token ids of the texts at rows `row_M` of the step's table: prompt + text, cut to the role's maximum length."""
    ids: list[list[int]] = [[] for _ in row_M]
    for index, source in enumerate(text_sources(tasks)):
        places = np.flatnonzero(texts.source_T[row_M] == index)
        text_ids, task = texts.text_T[row_M[places]], source.task
        read = source.data.read_texts(text_ids)
        role_P = source.data.role_G[text_ids]
        for code, role in enumerate(ROLES):
            chosen = np.flatnonzero(role_P == code)
            strings = [PromptedText(task.prompt(role, read[i][1]), read[i][0]) for i in chosen]
            for i, encoded in zip(chosen, tokeniser.encode(strings, task.max_length(role)), strict=True):
                ids[places[i]] = encoded
    return ids
