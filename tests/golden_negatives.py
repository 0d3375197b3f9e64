"""Helpers for the golden equalities with every option of negatives: plan, losses, a tiny guide, its masks by loops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from harness.data.distinct import merge_pairs
from harness.encoder.encoder import Encoder
from harness.loss_table import LOSSES
from harness.losses.interface import TaskLossSettings
from harness.mining.guide import Guide
from harness.prompts import Prompts
from harness.search.encode import TextEncoder
from harness.types import QueryPart, RaggedLists, StepPlan, TokenBatch

GUIDED, MARGIN = {"faq", "intents"}, 0.02  # masks some negatives of either task and spares some


def with_all_options(tasks: list[TaskLossSettings]) -> list[TaskLossSettings]:
    """Switch on symmetric and hardness, and the document tower for the task `faq`."""
    more: dict = {"symmetric": True, "hardness": 2.0}
    return [
        replace(task, document_tower=task.name == "faq", **more)
        if LOSSES[task.reporting_loss].uses_negatives_options
        else task
        for task in tasks
    ]


def with_queries_joined(plan: StepPlan) -> StepPlan:
    """Put the queries of the first task before its documents, as `negatives.same_tower: queries` does.

    A query is excluded from its own negatives.
    """
    part, *others = plan.parts
    assert isinstance(part, QueryPart)
    count = len(part.query_B)

    def shifted(index: np.ndarray) -> np.ndarray:
        return np.where(index >= 0, index + count, -1)

    query, document = part.excluded_pairs()
    part = replace(
        part,
        document_N=np.concatenate([part.query_B, part.document_N]),
        positive_BP=shifted(part.positive_BP),
        negative_BM=shifted(part.negative_BM),
        excluded_BX=RaggedLists.of_pairs(
            *merge_pairs((np.arange(count), np.arange(count)), (query, document + count)), count
        ),
    )
    return replace(plan, parts=(part, *others))


class NumberTokeniser:
    """A tokenizer whose texts are token ids, separated by spaces."""

    def encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        return [[int(number) for number in text.split()] for text in texts]

    def pad(self, ids: list[list[int]]) -> TokenBatch:
        rows = ids or [[0]]
        width = max(map(len, rows))
        padded = [row + [0] * (width - len(row)) for row in rows]
        return TokenBatch(torch.tensor(padded), torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows]))


def tiny_guide(encoder: Encoder, texts: list[list[int]], guided: set[str] = GUIDED, margin: float = MARGIN) -> Guide:
    """Build a guide on every rank. Its data set 0 holds `texts`; queries get the prompt "7 "."""
    table = SimpleNamespace(
        name="faq",
        kind="retrieval",
        read_texts=lambda ids: [(" ".join(map(str, texts[i])), None) for i in ids],
    )
    encoder.eval()
    encode = TextEncoder(
        lambda batch: encoder(batch.input_ids_BL, batch.attention_mask_BL),
        NumberTokeniser(),  # type: ignore[arg-type]
        max_lengths={"query": 64, "document": 64},
        prompts=Prompts(query="7 "),
        micro_batch_tokens=64,
    )
    return Guide(encode, [table], guided, margin, identity="")  # type: ignore[list-item]


def masked_by_loops(
    plan: StepPlan, encoder: Encoder, texts: list[list[int]], guided: set[str] = GUIDED, margin: float = MARGIN
) -> StepPlan:
    """Apply the definition of the guide's masks, encoding one text at a time and comparing one pair at a time."""
    encoder.eval()
    with torch.no_grad():
        without_prompt, with_prompt = (
            [F.normalize(encoder(torch.tensor([row]), torch.ones(1, len(row)).long()), dim=1)[0] for row in rows]
            for rows in (texts, [[7, *text] for text in texts])
        )
    contrastive = [part for part in plan.parts if isinstance(part, QueryPart)]
    document_rows = {
        row for p in contrastive for lists in (p.positive_BP, p.negative_BM) for row in p.document_N[lists[lists >= 0]]
    }
    as_document = [
        without_prompt[row] if row in document_rows else with_prompt[row] for row in range(len(texts))
    ]  # texts that are no document are queries
    parts = []
    for part in plan.parts:
        if not isinstance(part, QueryPart) or part.task not in guided:
            parts.append(part)
            continue
        pairs = []
        for query, row in enumerate(part.query_B):
            positives = set(part.positive_BP[query].tolist()) - {-1}
            candidates = set(part.negative_BM[query].tolist()) - {-1}
            candidates = candidates if part.own_negatives_only else set(range(len(part.document_N)))
            lowest = min(with_prompt[row] @ as_document[part.document_N[p]] for p in positives)
            masked = {
                n for n in candidates if with_prompt[row] @ as_document[part.document_N[n]] > lowest + margin + 1e-5
            }
            masked |= set(part.excluded_BX[query].tolist()) - {-1}
            pairs += [(query, n) for n in sorted(masked - positives)]
        owner, document = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        parts.append(replace(part, excluded_BX=RaggedLists.of_pairs(owner, document, len(part.query_B))))
    return replace(plan, parts=tuple(parts))
