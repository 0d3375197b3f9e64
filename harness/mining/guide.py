"""A frozen guide model finds the documents of a step that are too similar to a query to be its negatives.

These documents are added to the plan's excluded documents (GISTEmbed, Solatorio 2024, arXiv 2402.16829).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import comm
from harness.data.distinct import merge_pairs, pairs_among
from harness.data.plan.task import Task, text_sources
from harness.data.table.index import TaskData
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.encoder import fingerprint
from harness.encoder.load import config_of_folder, load_encoder
from harness.engine.budget import CPU_TOKENS
from harness.mining.config import GuideConfig
from harness.search.encode import TextEncoder
from harness.search.exact import full_float32
from harness.types import EncodingRole, QueryPart, RaggedLists, StepPlan, StepTexts, TokenBatch

_ROLES: tuple[EncodingRole, ...] = get_args(EncodingRole)  # the code of a role is its position here
_QUERY, _DOCUMENT, _SENTENCE = map(_ROLES.index, ("query", "document", "sentence"))
_BLOCK_CELLS = 1 << 24  # number of similarities in memory at a time: 64 MiB
# Added to every limit. Two copies of a text in different micro-batches have similarities that differ by less than this,
# so that a copy of the positive never exceeds the limit.
_ROUNDING = 1e-5
# Not a setting of the run, so that a resumed run has the same micro-batches, the same rounding and the same decisions.
# Without a graph, a layer needs about 13 numbers per token and hidden unit at a time. With 1,024 hidden units this is
# 0.8 GiB for 16,384 tokens (calculated, not measured).
_MICRO_BATCH_TOKENS = {"cpu": CPU_TOKENS, "cuda": 16_384}


class Guide:
    """Excludes, for every query, the documents that the guide finds more similar to the query than its positive.

    Every rank must create this object and call `mask` for the same steps in the same order.
    """

    def __init__(
        self,
        encode: TextEncoder,
        tables: Sequence[TaskData],
        guided_tasks: Collection[str],
        margin: float,
        identity: str,
    ) -> None:
        """tables: the text tables that a plan refers to, in its order. identity: hashes of what vectors depend on."""
        self._encode, self._tables, self._guided_tasks, self._margin = encode, tables, guided_tasks, margin
        self._classification_tasks = {table.name for table in tables if table.kind == "classification"}
        self.fingerprint = identity

    def mask(self, plan: StepPlan) -> StepPlan:
        """A copy of the plan; in guided tasks it excludes d for q if guide(q, d) > guide(q, lowest positive) + margin.

        The ranks share the queries; each gets what all have found. In the paper a query has one positive. With several
        positives, d is excluded if it is more similar than any one of them. The result is the same as if the query
        formed one pair with each positive. For this reason a single wrong positive excludes most negatives of its
        query; with `positives: one`, this happens only in the steps that draw the wrong positive.
        """
        parts = [part for part in plan.parts if isinstance(part, QueryPart) and part.task in self._guided_tasks]
        if not parts:
            return plan
        role_T = self._document_roles(plan)
        with full_float32(comm.device()):  # with less, copies of a text would differ by more than _ROUNDING
            embedded = self._embed(plan.texts, parts, role_T)
            masked = {part.task: self._masked(part, embedded, role_T) for part in parts}
        return replace(plan, parts=tuple(masked.get(part.task, part) for part in plan.parts))

    def _document_roles(self, plan: StepPlan) -> np.ndarray:
        """[T]: the code of the role whose prompt a text gets when it is compared as a document.

        The role is "query" for the queries that `same_tower` adds to the documents, and "sentence" for all texts of
        classification tasks that are no documents of another task.
        """
        role_T = np.full(len(plan.texts), _QUERY, dtype=np.int64)
        parts = [part for part in plan.parts if isinstance(part, QueryPart)]
        for part in sorted(parts, key=lambda part: part.task not in self._classification_tasks):
            is_sentence = self._query_role(part) == _SENTENCE
            if is_sentence:
                role_T[part.query_B] = _SENTENCE
            for index in (part.positive_BP, part.negative_BM):
                role_T[part.document_N[index[index >= 0]]] = _SENTENCE if is_sentence else _DOCUMENT
        return role_T

    def _query_role(self, part: QueryPart) -> int:
        return _SENTENCE if part.task in self._classification_tasks else _QUERY

    def _embed(self, texts: StepTexts, parts: Sequence[QueryPart], role_T: np.ndarray) -> _Embedded:
        """Encode the queries and documents of the parts. A text that is used in both roles is encoded twice."""
        keys = [self._query_role(part) * len(texts) + part.query_B for part in parts]  # see `_Embedded.key_U`
        keys += [role_T[part.document_N] * len(texts) + part.document_N for part in parts]
        role_U, row_U = np.divmod(np.unique(np.concatenate(keys)), len(texts))
        unit_rows = []
        for code, role in enumerate(_ROLES):
            row_V = row_U[role_U == code]
            if len(row_V):
                longest_first = np.argsort(-texts.length_T[row_V], kind="stable")
                read = partial(self._read, texts, row_V)
                row_VD = torch.from_numpy(self._encode.read_and_encode(read, longest_first, role))
                unit_rows.append(F.normalize(row_VD.to(comm.device()), dim=1))
        return _Embedded(len(texts), role_U * len(texts) + row_U, torch.cat(unit_rows))

    def _read(self, texts: StepTexts, row_V: np.ndarray, place_R: np.ndarray) -> list[str]:
        """The raw texts of the rows `row_V[place_R]` of the step's table.

        If several raw texts have the same token ids, they share one row, and the plan refers to the first of them.
        """
        raw, source_R, text_R = [""] * len(place_R), texts.source_T[row_V[place_R]], texts.text_T[row_V[place_R]]
        for source in np.unique(source_R):
            places = np.flatnonzero(source_R == source)
            for place, (text, _) in zip(places, self._tables[source].read_texts(text_R[places]), strict=True):
                raw[place] = text
        return raw

    def _masked(self, part: QueryPart, embedded: _Embedded, role_T: np.ndarray) -> QueryPart:
        """A copy of the part in which more documents are excluded. Every rank judges its share of the queries."""
        rows = part.share(comm.rank(), comm.world_size())
        query_BD = embedded.of(part.query_B[rows], self._query_role(part))
        document_ND = embedded.of(part.document_N, role_T[part.document_N])
        limit_B = _lowest_positive(query_BD, document_ND, part.positive_BP[rows]) + self._margin + _ROUNDING
        if part.own_negatives_only:
            pairs_above = _own_negatives_above(query_BD, document_ND, limit_B, part.negative_BM[rows])
        else:
            pairs_above = _documents_above(query_BD, document_ND, limit_B)
        found = [(query + rows.start, document) for query, document in pairs_above]
        too_near = [pairs for found_by_rank in comm.gather_objects(found) for pairs in found_by_rank]
        query, document = merge_pairs(part.excluded_pairs(), *too_near)
        owner, column = np.nonzero(part.positive_BP >= 0)
        is_negative = ~pairs_among(query, document, (owner, part.positive_BP[owner, column]))
        excluded_BX = RaggedLists.of_pairs(query[is_negative], document[is_negative], len(part.query_B))
        return replace(part, excluded_BX=excluded_BX)


@dataclass(frozen=True, slots=True)
class _Embedded:
    """Embeddings, normalised to length 1, of some of the step's texts in some roles."""

    num_texts: int  # number of texts of the step
    key_U: np.ndarray  # role * num_texts + row of the step's table, ascending
    unit_UD: Tensor

    def of(self, row_N: np.ndarray, role_N: np.ndarray | int) -> Tensor:
        """[N, D]: the embeddings of the rows `row_N` of the step's table in the roles `role_N`."""
        place_N = np.searchsorted(self.key_U, role_N * self.num_texts + row_N)
        return self.unit_UD[torch.from_numpy(place_N).to(self.unit_UD.device)]


def load_guide(config: GuideConfig, tasks: Sequence[Task]) -> Guide:
    """Load the guide model of a recipe to this rank's device, in float32. The guide is neither trained nor sharded.

    Raises:
        ValueError: the model does not exist or cannot be reproduced; one line that names the key `guide`.
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
        return encoder(*batch.on(comm.device()))

    encode = TextEncoder(
        forward,
        tokeniser,
        max_lengths={"query": settings.max_length, "document": settings.max_length},
        prompts=config.prompts.to_prompts(),
        micro_batch_tokens=_MICRO_BATCH_TOKENS[comm.device().type],
    )
    tables = [source.data for source in text_sources(tasks)]
    guided_tasks = {task.config.name for task in tasks if task.config.negatives.guide}
    identity = f"{fingerprint(encoder.state_dict())} {tokeniser.fingerprint} {encoder.pooling}"
    return Guide(encode, tables, guided_tasks, config.margin, identity)


def _lowest_positive(query_BD: Tensor, document_ND: Tensor, positive_BP: np.ndarray) -> Tensor:
    """[B]: for each query, the lowest of the cosines to its positives."""
    index_BP = torch.from_numpy(positive_BP).to(query_BD.device)
    lowest_B = query_BD.new_full((len(query_BD),), torch.inf)
    for index_B in index_BP.unbind(1):  # one positive of every query at a time, so that memory does not grow with P
        cosine_B = (query_BD * document_ND[index_B.clamp_min(0)]).sum(1)
        lowest_B = lowest_B.minimum(cosine_B.masked_fill(index_B < 0, torch.inf))
    return lowest_B


def _documents_above(query_BD: Tensor, document_ND: Tensor, limit_B: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the (query, document) pairs whose cosine is above the query's limit, one block of queries at a time."""
    num_rows = max(1, _BLOCK_CELLS // len(document_ND))
    for start in range(0, len(query_BD), num_rows):
        rows = slice(start, start + num_rows)
        query, document = (query_BD[rows] @ document_ND.T > limit_B[rows, None]).nonzero(as_tuple=True)
        yield query.cpu().numpy() + start, document.cpu().numpy()


def _own_negatives_above(
    query_BD: Tensor, document_ND: Tensor, limit_B: Tensor, negative_BM: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the (query, own negative) pairs whose cosine is above the query's limit, one slot at a time."""
    for index_B in negative_BM.T:
        cosine_B = (query_BD * document_ND[np.maximum(index_B, 0)]).sum(1)
        query = np.flatnonzero((cosine_B > limit_B).cpu().numpy() & (index_B >= 0))
        yield query, index_B[query]
