"""A frozen guide model says which documents of a step are too near a query to be its negatives (GISTEmbed).

It only adds to what the plan excludes, so that losses, kernel and metrics see nothing new (Solatorio 2024, arXiv
2402.16829).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import comm
from harness.data.index import TaskData
from harness.data.known import merge_pairs
from harness.data.ragged import pad_lists
from harness.data.task import Task, text_sources
from harness.data.tokenisation import Tokeniser
from harness.encoder.encoder import config_of_folder, fingerprint, load_encoder
from harness.engine.budget import micro_batch_tokens
from harness.engine.encode import TextEncoder
from harness.mining.config import GuideConfig
from harness.types import ROLES, InfoNCEPart, StepPlan, StepTexts, TokenBatch

_BLOCK_CELLS = 1 << 24  # similarities held at a time: 64 MiB
_TIE = 1e-5  # one text's similarity differs by less between two micro-batches: a copy of the positive is never above it


class Guide:
    """Adds to a plan what the guide finds nearer to a query than its positive; every rank calls it, step by step."""

    def __init__(
        self, encode: TextEncoder, tables: Sequence[TaskData], guided: Collection[str], margin: float, weights: str
    ) -> None:
        """tables: those that a plan names, in its order; guided: names of tasks; weights: their hash."""
        self._encode, self._tables, self._guided, self._margin = encode, tables, guided, margin
        self.fingerprint = weights

    def mask(self, plan: StepPlan) -> StepPlan:
        """The same step; in guided tasks, d is excluded for q if guide(q, d) > guide(q, lowest positive) + margin."""
        parts = [part for part in plan.parts if isinstance(part, InfoNCEPart) and part.task in self._guided]
        if not parts:
            return plan
        row_U = np.unique(np.concatenate([rows for part in parts for rows in (part.query_B, part.document_N)]))
        unit_UD = self._embed(plan.texts, row_U)
        masked = {part.task: self._masked(part, row_U, unit_UD) for part in parts}
        return replace(plan, parts=tuple(masked.get(part.task, part) for part in plan.parts))

    def _embed(self, texts: StepTexts, row_U: np.ndarray) -> Tensor:
        """Unit embeddings of rows of the step's table. A row's raw text is the first of those with its tokens."""
        raw, role_U = [""] * len(row_U), np.zeros(len(row_U), dtype=np.int64)
        for source, table in enumerate(self._tables):
            places = np.flatnonzero(texts.source_T[row_U] == source)
            ids = texts.text_T[row_U[places]]
            role_U[places] = table.role_G[ids]
            for place, (text, _) in zip(places, table.read_texts(ids), strict=True):
                raw[place] = text
        unit_UD: Tensor | None = None
        for code, role in enumerate(ROLES):
            places = np.flatnonzero(role_U == code)
            if len(places):
                embedding = torch.from_numpy(self._encode([raw[place] for place in places], role)).to(comm.device())
                unit_UD = embedding.new_zeros((len(row_U), embedding.shape[1])) if unit_UD is None else unit_UD
                unit_UD[torch.from_numpy(places).to(comm.device())] = F.normalize(embedding, dim=1)
        assert unit_UD is not None
        return unit_UD

    def _masked(self, part: InfoNCEPart, row_U: np.ndarray, unit_UD: Tensor) -> InfoNCEPart:
        query_BD = unit_UD[np.searchsorted(row_U, part.query_B)]
        document_ND = unit_UD[np.searchsorted(row_U, part.document_N)]
        limit_B = _lowest_positive(query_BD, document_ND, part.positive_BP) + self._margin + _TIE
        above = _own_above if part.scope == "own" else _above
        found = list(above(query_BD, document_ND, limit_B, part))
        known = np.nonzero(part.excluded_BX >= 0)
        owner, document = merge_pairs((known[0], part.excluded_BX[known]), *found)
        other = ~(document[:, None] == part.positive_BP[owner]).any(1)
        return replace(part, excluded_BX=pad_lists(owner[other], document[other], len(part.query_B)))


def load_guide(config: GuideConfig, tasks: Sequence[Task]) -> Guide:
    """The guide of a recipe, on this rank's device, in float32; it is no part of what is trained or sharded.

    Raises:
        ValueError: no such model, or one that cannot be reproduced, in one line that names the key `guide`.
    """
    try:
        settings = config_of_folder(
            config.name_or_path, max_length=config.max_length, trust_remote_code=config.trust_remote_code
        )
        encoder = load_encoder(settings).to(comm.device()).eval().requires_grad_(False)
        tokeniser = Tokeniser(config.name_or_path, config.trust_remote_code)
    except ValueError as error:
        raise ValueError(f"guide: got {config.name_or_path}, which cannot be loaded ({error})") from error

    def forward(batch: TokenBatch) -> Tensor:
        return encoder(batch.input_ids_BL.to(comm.device()), batch.attention_mask_BL.to(comm.device()))

    encode = TextEncoder(
        forward,
        tokeniser,
        max_lengths={"query": settings.max_length, "document": settings.max_length},
        prompts={"query": config.prompts.query, "document": config.prompts.document},
        micro_batch_tokens=micro_batch_tokens("auto", encoder, "fp32"),
    )
    tables = [source.data for source in text_sources(tasks)]
    guided = {task.config.name for task in tasks if task.config.negatives.guide}
    return Guide(encode, tables, guided, config.margin, fingerprint(encoder.state_dict()))


def _lowest_positive(query_BD: Tensor, document_ND: Tensor, positive_BP: np.ndarray) -> Tensor:
    index_BP = torch.from_numpy(positive_BP).to(query_BD.device)
    lowest_B = query_BD.new_full((len(query_BD),), torch.inf)
    for index_B in index_BP.unbind(1):  # list by list: memory linear in queries
        cosine_B = (query_BD * document_ND[index_B.clamp_min(0)]).sum(1)
        lowest_B = lowest_B.minimum(cosine_B.masked_fill(index_B < 0, torch.inf))
    return lowest_B


def _above(
    query_BD: Tensor, document_ND: Tensor, limit_B: Tensor, part: InfoNCEPart
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(query, document) above the query's limit, block by block of queries."""
    num_rows = max(1, _BLOCK_CELLS // len(document_ND))
    for start in range(0, len(query_BD), num_rows):
        rows = slice(start, start + num_rows)
        owner, document = (query_BD[rows] @ document_ND.T > limit_B[rows, None]).nonzero(as_tuple=True)
        yield owner.cpu().numpy() + start, document.cpu().numpy()


def _own_above(
    query_BD: Tensor, document_ND: Tensor, limit_B: Tensor, part: InfoNCEPart
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same of the queries' own negatives only, place by place in their lists."""
    for index_B in part.negative_BM.T:
        cosine_B = (query_BD * document_ND[np.maximum(index_B, 0)]).sum(1)
        owner = np.flatnonzero((cosine_B > limit_B).cpu().numpy() & (index_B >= 0))
        yield owner, index_B[owner]
