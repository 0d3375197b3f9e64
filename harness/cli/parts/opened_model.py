"""Loads any model that a command line may name, to embed texts with it. Used by evaluate, mine and filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import comm, rank0
from harness.config import inference_prompts, max_lengths
from harness.data.data_config import DataConfig
from harness.data.source.facts import ReadSettings
from harness.data.table.findings import file_remarks
from harness.data.table.index import TableConfig, TaskData, open_table
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import Encoder, fingerprint
from harness.encoder.load import config_of_folder, load_encoder
from harness.encoder.partial.adapter import without_new_adapter
from harness.encoder.stored_prompts import missing_prompts, prompts_of_folder
from harness.engine.budget import micro_batch_tokens
from harness.engine.precision import Autocast, weight_dtype
from harness.model_folder.pooling import PoolingMode
from harness.model_folder.preflight import COMMAND_LINE, Preflight
from harness.prediction.machine.matrix_rate import slow_precision
from harness.prompts import ModelPrompts, PromptChoice, Prompts
from harness.prompts.notes import command_warnings, family_warning
from harness.prompts.roles import in_words
from harness.report.console import ReadingConsole
from harness.report.messages import say, warn
from harness.run.folder import RunFolder
from harness.run.resuming.recognise import is_run, model_folder
from harness.search.encode import TextEncoder
from harness.types import EncodingRole, SourceKind, TokenBatch


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A loaded model, with the text lengths and prompts of its run, or of its folder if it belongs to no run."""

    name: str
    encoder: Encoder
    tokeniser: Tokeniser
    max_lengths: dict[EncodingRole, int]
    model_prompts: ModelPrompts
    choice: PromptChoice  # what the user asks for in place of the model's prompts
    prompts: Prompts  # of pairs: queries and documents
    encode: TextEncoder

    @property
    def pair_lengths(self) -> tuple[int, int]:
        """The length limits of queries and of documents, tokens."""
        return self.max_lengths["query"], self.max_lengths["document"]

    def identity(self) -> dict[str, Any]:
        """Everything that its embeddings depend on, apart from rounding."""
        return {
            "model": self.name,
            "weights": fingerprint(without_new_adapter(self.encoder.state_dict())),
            "pooling": self.encoder.pooling,
            "tokenizer": self.tokeniser.fingerprint,
            "prompts": self.prompts.for_pairs(),
            "max_lengths": list(self.pair_lengths),
        }

    def show_prompts(self) -> None:
        """Say which prompts queries and documents get, and warn of what may not be meant. For mine and filter."""
        say(f"prompts: {in_words(self.prompts.for_pairs())}; a row's own prompt takes the place of its query's")
        for warning in command_warnings(self.model_prompts, self.choice, {"data": "retrieval"}, {"data": self.prompts}):
            warn(warning)

    def read(self, kind: SourceKind, place: str, settings: ReadSettings = ReadSettings()) -> TaskData:  # noqa: B008
        """The texts of a data file or folder."""
        name = Path(place).name
        table = TableConfig(name, kind, "train", self.prompts, self.pair_lengths, settings)
        data = open_table(table, place, DataConfig(), self.tokeniser, progress=ReadingConsole(name))
        for line in file_remarks(data, self.prompts):
            say(f"{name}: {line}")
        return data


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that a command line names, checked, but none of its weights loaded."""

    name: str
    run: RunFolder | None
    config: ModelConfig
    max_lengths: dict[EncodingRole, int]

    def open(
        self, precision: str, choice: PromptChoice, on_texts: Callable[[int], None] = lambda num_texts: None
    ) -> OpenedModel:
        """Load it on this rank. on_texts: called with the number of texts that this rank has just encoded.

        precision: of the forward pass, as in `training.precision`. choice: replaces the model's own prompts.
        """
        folder, trust = self.config.name_or_path, self.config.trust_remote_code
        own = prompts_of_folder(folder, trust) if self.run is None else inference_prompts(self.run.config)
        prompts = own.chosen(None, choice)
        if self.run is None and own.is_empty and not choice.is_given:
            _warn_of_missing_prompts(self.name, folder, trust)
        if slow := slow_precision(precision):
            warn(f"--precision: {slow}; leave it out for fp32")
        encoder = load_encoder(self.config).to(comm.device(), weight_dtype(precision)).eval()
        Autocast(encoder, precision)
        tokeniser = Tokeniser(folder, trust)
        encode = TextEncoder(
            lambda batch: _forward(encoder, batch, on_texts),
            tokeniser,
            max_lengths=self.max_lengths,
            prompts=prompts,
            micro_batch_tokens=micro_batch_tokens("auto", encoder, precision),
        )
        return OpenedModel(self.name, encoder, tokeniser, self.max_lengths, own, choice, prompts, encode)


def find_model(
    model: str, max_length: int | None, pooling: PoolingMode | None, trust_remote_code: bool = False
) -> FoundModel:
    """Find and check a run folder's or checkpoint's model, or any Hugging Face or sentence-transformers model.

    max_length, pooling: replace the model's own settings; None keeps them. trust_remote_code: let code that comes with
    the model run; a run's recipe may allow it, too. Every rank must call it.

    Raises:
        ValueError: no such model, or a model that is not whole or that this project cannot reproduce.
    """
    run = RunFolder.containing(Path(model)) if is_run(model) else None
    trust = trust_remote_code or (run is not None and run.config.model.trust_remote_code)
    name = str(model_folder(model))
    request = Preflight(name, COMMAND_LINE, trust, pooling=pooling and (pooling,), longest_text=max_length)
    rank0.by_main(request.check)
    config = config_of_folder(name, max_length=max_length, pooling=pooling, trust_remote_code=trust)
    lengths = _equal_lengths(config) if run is None or max_length else max_lengths(run.config)
    return FoundModel(model, run, config, lengths)


def open_model(
    model: str,
    max_length: int | None,
    pooling: PoolingMode | None,
    precision: str,
    choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
    trust_remote_code: bool = False,
    on_texts: Callable[[int], None] = lambda num_texts: None,
) -> OpenedModel:
    """`find_model` and `FoundModel.open` in one."""
    return find_model(model, max_length, pooling, trust_remote_code).open(precision, choice, on_texts)


def _warn_of_missing_prompts(model: str, folder: str, trust_remote_code: bool) -> None:
    """Warn if the model's family is known to need prompts that the folder does not store."""
    way_out = 'add --query-prompt {query} --document-prompt {document}, or --query-prompt "" if none is meant'
    for warning in family_warning("MODEL", model, missing_prompts(folder, trust_remote_code), way_out):
        warn(warning)


def choices_of_run(model: str) -> dict[str, PromptChoice]:
    """The prompts that a run's recipe asks for beside a path of `evaluation.data`, by the place of the data."""
    if not is_run(model):
        return {}
    folder = RunFolder.containing(Path(model))
    places = [fact["path"] for fact in folder.read("run.json", {}).get("evaluation_data", [])]
    return {place: entry.choice for place, entry in zip(places, folder.config.evaluation.data, strict=False)}


def _equal_lengths(config: ModelConfig) -> dict[EncodingRole, int]:
    return {"query": config.max_length, "document": config.max_length, "sentence": config.max_length}


@torch.no_grad()
def _forward(encoder: Encoder, batch: TokenBatch, on_texts: Callable[[int], None]) -> torch.Tensor:
    on_texts(len(batch.input_ids_BL))
    return encoder(*batch.on(comm.device())).float()
