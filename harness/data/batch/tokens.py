"""Turns the plan's text ids into the token batches of this rank, from the token ids that lie beside the texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.plan.task import Task, text_sources
from harness.data.table.tokenisation import Tokeniser
from harness.data.table.tokens.flat import FlatTokens
from harness.types import StepPlan, StepTexts, TokenBatch


def token_batches(
    plan: StepPlan, micro_batches: Sequence[np.ndarray], tasks: Sequence[Task], tokeniser: Tokeniser
) -> list[TokenBatch]:
    """One padded batch per micro-batch; an empty micro-batch gives a dummy of one padding token.

    tokeniser: pads; nothing is tokenised again.
    """
    return [tokeniser.pad_flat(_tokens(plan.texts, rows, tasks)).packed() for rows in micro_batches]


def _tokens(texts: StepTexts, row_M: np.ndarray, tasks: Sequence[Task]) -> FlatTokens:
    """Token ids of the texts at rows `row_M` of the step's table: prompt + text, cut to the role's maximum length."""
    source_M, parts, places = texts.source_T[row_M], [], []
    for index, source in enumerate(text_sources(tasks)):
        places.append(np.flatnonzero(source_M == index))
        parts.append(source.data.read_tokens(texts.text_T[row_M[places[-1]]]))
    return FlatTokens.joined(parts, np.argsort(np.concatenate(places), kind="stable"))
