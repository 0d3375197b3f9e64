"""Loads any model that a command line may name, to embed texts with it. Used by evaluate, mine and filter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import comm
from harness.config import inference_prompts, max_lengths
from harness.data.config import DataConfig
from harness.data.table.index import TableConfig, TaskData, open_table
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import Encoder, fingerprint
from harness.encoder.load import config_of_folder, load_encoder
from harness.engine.budget import micro_batch_tokens
from harness.model_folder.find import resolve_model
from harness.model_folder.layout import read_layout
from harness.model_folder.pooling import PoolingMode
from harness.prompts import Prompts, prompts_of_model_folder
from harness.report.console import ReadingConsole
from harness.run.folder import RunFolder, is_run, model_folder
from harness.search.encode import TextEncoder
from harness.types import EncodingRole, SourceKind, TokenBatch

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A loaded model, with the text lengths and prompts of its run, or of its folder if it belongs to no run."""

    name: str
    encoder: Encoder
    tokeniser: Tokeniser
    max_lengths: dict[EncodingRole, int]
    prompts: Prompts
    encode: TextEncoder

    @property
    def pair_lengths(self) -> tuple[int, int]:
        """The length limits of queries and of documents, tokens."""
        return self.max_lengths["query"], self.max_lengths["document"]

    def identity(self) -> dict[str, Any]:
        """Everything that its embeddings depend on, apart from rounding."""
        return {
            "model": self.name,
            "weights": fingerprint(self.encoder.state_dict()),
            "pooling": self.encoder.pooling,
            "prompts": self.prompts.for_pairs(),
            "max_lengths": list(self.pair_lengths),
        }

    def read(self, kind: SourceKind, place: str) -> TaskData:
        """The texts of a data file or folder."""
        name = Path(place).name
        table = TableConfig(name, kind, "train", self.prompts, self.pair_lengths)
        return open_table(table, place, DataConfig(), self.tokeniser, progress=ReadingConsole(name))


def open_model(model: str, max_length: int | None, pooling: PoolingMode | None, precision: str) -> OpenedModel:
    """Load a run folder's or checkpoint's model, or any Hugging Face or sentence-transformers model, on this rank.

    max_length, pooling: replace the model's own settings; None keeps them.

    Raises:
        ValueError: no such model, or a model with modules that this project cannot reproduce.
    """
    folder = RunFolder.containing(Path(model)) if is_run(model) else None
    config = config_of_folder(str(model_folder(model)), max_length=max_length, pooling=pooling)
    encoder = load_encoder(config).to(comm.device(), _DTYPES[precision]).eval()
    tokeniser = Tokeniser(config.name_or_path)
    lengths = _equal_lengths(config) if folder is None or max_length else max_lengths(folder.config)
    prompts = _stored_prompts(config) if folder is None else inference_prompts(folder.config)
    encode = TextEncoder(
        lambda batch: _forward(encoder, batch),
        tokeniser,
        max_lengths=lengths,
        prompts=prompts,
        micro_batch_tokens=micro_batch_tokens("auto", encoder, precision),
    )
    return OpenedModel(model, encoder, tokeniser, lengths, prompts, encode)


def _equal_lengths(config: ModelConfig) -> dict[EncodingRole, int]:
    return {"query": config.max_length, "document": config.max_length, "sentence": config.max_length}


def _stored_prompts(config: ModelConfig) -> Prompts:
    """The prompts that a sentence-transformers folder stores."""
    return prompts_of_model_folder(read_layout(resolve_model(config.name_or_path)).prompts)


@torch.no_grad()
def _forward(encoder: Encoder, batch: TokenBatch) -> torch.Tensor:
    return encoder(*batch.on(comm.device())).float()
