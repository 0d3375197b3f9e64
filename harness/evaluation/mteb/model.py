"""Our model as mteb sees it: an encoder and a search whose work all ranks share. Lives on rank 0 only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mteb._create_dataloaders import create_dataloader
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta, SearchEncoderWrapper
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import EncodeKwargs, PromptType

from harness.evaluation.mteb.prompts import TaskPrompts, role_of
from harness.evaluation.mteb.ranks import AddDocuments, Ask, Encode, Search

DOCUMENTS = 50_000  # sent to the ranks at a time; as many as mteb encodes at a time
LOADED = 1024  # texts of a batch of mteb's data loader; how many the model takes at a time is its own matter
ENCODE_KWARGS: EncodeKwargs = {"batch_size": LOADED, "show_progress_bar": False}


class EncodingError(ValueError):
    """The model gives no usable embeddings: no later task can be scored either."""


class RankedModel(AbsEncoder):
    """An `EncoderProtocol` and `SearchProtocol` of mteb 2. ask: see `ranks.together`."""

    mteb_model_meta: ModelMeta

    def __init__(self, ask: Ask, prompts: TaskPrompts, meta: ModelMeta) -> None:
        self._ask, self._prompts = ask, prompts
        self.mteb_model_meta = meta
        self._corpus: Any = None

    def encode(
        self, inputs: Any, *, task_metadata: TaskMetadata, prompt_type: PromptType | None = None, **_: Any
    ) -> np.ndarray:
        """Embeddings float32 [N, D] of a data loader's texts."""
        prompt = self._prompts.before(task_metadata, prompt_type)
        row_ND = self._ask(Encode(_texts(inputs), role_of(prompt_type), prompt))
        if not np.isfinite(row_ND).all():
            raise EncodingError(
                f"{task_metadata.name}: got embeddings with inf or nan, expected finite numbers; evaluate with "
                "--precision fp32, or train with a lower training.learning_rate"
            )
        return row_ND

    def index(self, corpus: Any, **_: Any) -> None:
        """Keep the documents until they are searched."""
        self._corpus = corpus

    def search(
        self, queries: Any, *, task_metadata: TaskMetadata, top_k: int, top_ranked: Any = None, **options: Any
    ) -> dict[str, dict[str, float]]:
        """The cosines of each query's nearest documents, by their ids; of `top_ranked`, only those it lists."""
        corpus, self._corpus = self._corpus, None
        if top_ranked is not None:
            wrapper = SearchEncoderWrapper(self)
            wrapper.index(corpus, task_metadata=task_metadata, **options)
            return wrapper.search(queries, task_metadata=task_metadata, top_k=top_k, top_ranked=top_ranked, **options)
        ids = list(corpus["id"])
        prompt = self._prompts.before(task_metadata, PromptType.document)
        for part in _parts(corpus):
            self._ask(AddDocuments(_loaded(part, task_metadata, PromptType.document), prompt))
        texts = _loaded(queries, task_metadata, PromptType.query)
        prompt = self._prompts.before(task_metadata, PromptType.query)
        found = self._ask(Search(texts, prompt, min(top_k, len(ids))))
        if not np.isfinite(found.score_QK).all():
            raise EncodingError(f"{task_metadata.name}: got embeddings with inf or nan, expected finite numbers")
        return {
            query: {ids[document]: score for document, score in zip(row, scores, strict=True)}
            for query, row, scores in zip(queries["id"], found.index_QK.tolist(), found.score_QK.tolist(), strict=True)
        }


def _parts(corpus: Any) -> Iterator[Any]:
    for first in range(0, len(corpus), DOCUMENTS):
        yield corpus.select(range(first, min(first + DOCUMENTS, len(corpus))))


def _loaded(rows: Any, task: TaskMetadata, prompt_type: PromptType) -> list[str]:
    """The texts as mteb makes them of rows: title and text, instruction, conversation."""
    return _texts(create_dataloader(rows, task_metadata=task, prompt_type=prompt_type, batch_size=LOADED))


def _texts(inputs: Any) -> list[str]:
    return [text for batch in inputs for text in batch["text"]]
