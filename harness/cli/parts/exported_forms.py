"""The forms of an exported model that a command line asks for: half precision, ONNX, int8; compared and scored."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.cli.options import existing_path
from harness.cli.parts.opened_model import choices_of_run
from harness.config import inference_prompts, max_lengths
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import Encoder
from harness.encoder.load import load_encoder
from harness.engine.budget import micro_batch_tokens
from harness.evaluation.kinds.table import main_metric_of
from harness.evaluation.results import json_values
from harness.evaluation.runner import LoadedData, Results, evaluate, load
from harness.export.formats import onnx_file
from harness.export.formats.compared import Difference, FormReport, forms_section
from harness.export.formats.half_precision import TORCH_DTYPES, round_weights
from harness.files import check_output, replace_file
from harness.ownership.files import is_json_with, refuse_foreign_file
from harness.prompts import NO_PROMPTS, PromptChoice
from harness.report.messages import show_counts, warn
from harness.run.folder import RunFolder
from harness.search.encode import TextEncoder
from harness.types import EncodingRole, TokenBatch

Embed = Callable[[TokenBatch], Tensor]  # a batch on the CPU → embeddings [B, D] float32
MainScores = dict[str, float | None]  # DATASET/METRIC → main metric of each data set; None: not defined


@dataclass(frozen=True, slots=True)
class ScoredData:
    """Evaluation data with the prompts of the run, and the run's text lengths."""

    loaded: LoadedData
    max_lengths: dict[EncodingRole, int]

    def scores(self, embed: Embed, encoder: Encoder, tokeniser: Tokeniser) -> MainScores:
        """The main metric of every data set."""
        results = json_values(self.results(embed, encoder, tokeniser))
        mains = {name: main_metric_of(metrics) for name, metrics in results.items()}
        return {f"{name}/{main}": results[name][main] for name, main in mains.items()}

    def results(self, embed: Embed, encoder: Encoder, tokeniser: Tokeniser) -> Results:
        """All metrics of every data set."""
        encode = TextEncoder(
            embed,
            tokeniser,
            max_lengths=self.max_lengths,
            prompts=NO_PROMPTS,
            micro_batch_tokens=micro_batch_tokens("auto", encoder, "fp32"),
        )
        return evaluate(encode, self.loaded)


@dataclass(frozen=True, slots=True)
class _Fp32:
    """What the fp32 weights give: vectors of a few texts, and scores where data is named."""

    tokeniser: Tokeniser
    batch: TokenBatch
    vector_BD: np.ndarray
    scored: ScoredData | None
    scores: MainScores | None

    @classmethod
    def of(
        cls, encoder: Encoder, tokeniser: Tokeniser, texts: Sequence[str], max_length: int, scored: ScoredData | None
    ) -> _Fp32:
        batch = tokeniser.pad(tokeniser.encode(texts, max_length))
        embed = as_embed(encoder)
        scores = None if scored is None else scored.scores(embed, encoder, tokeniser)
        return cls(tokeniser, batch, embed(batch).numpy(), scored, scores)

    def report(self, file: str, numbers: str, num_bytes: int, embed: Embed, encoder: Encoder) -> FormReport:
        """Another form, which `embed` computes, against them. encoder: its architecture."""
        own_BD = embed(self.batch).numpy()
        if not np.isfinite(own_BD).all():
            raise ValueError(
                f"--dtype: got {numbers}, whose embeddings are not finite, expected numbers that hold the model's "
                "states; take --dtype bf16 or fp32"
            )
        scores = None
        if self.scored is not None and self.scores is not None:
            after = self.scored.scores(embed, encoder, self.tokeniser)
            scores = {name: (before, after[name]) for name, before in self.scores.items()}
        return FormReport(file, numbers, num_bytes, Difference.of(self.vector_BD, own_BD), scores)


@dataclass(slots=True)
class Forms:
    """What is asked for beside the fp32 weights, and a report on each form that is written."""

    dtype: Literal["fp32", "bf16", "fp16"]
    with_onnx: bool
    int8: bool
    data: Sequence[str]
    output: Path | None
    reports: list[FormReport] = field(default_factory=list)

    @classmethod
    def asked_for(
        cls,
        *,
        with_onnx: bool,
        int8: bool,
        dtype: Literal["fp32", "bf16", "fp16"],
        data: Sequence[str] | None,
        data_root: Path | None,
        output: Path | None,
        averaged: bool = False,
    ) -> Forms:
        """The options, checked.

        Raises:
            ValueError: options that do not fit together, data that is not there, or a missing package.
        """
        if int8 and not with_onnx:
            raise ValueError("--int8: got it without --format onnx, expected both; add --format onnx")
        if with_onnx and dtype != "fp32":
            raise ValueError(
                f"--dtype: got {dtype} with --format onnx, expected fp32; for smaller ONNX weights take --int8"
            )
        if not with_onnx and dtype == "fp32" and ((data and not averaged) or output):
            option = "--data" if data and not averaged else "--output"
            raise ValueError(
                f"{option}: got it with the fp32 weights alone, which change nothing, expected --dtype, --format onnx "
                "or --average; to score a model: harness evaluate"
            )
        if output is not None:
            check_output(output, "--output", is_file=True)
            refuse_foreign_file(output, "--output", "a file of forms", is_json_with("folder", "forms"))
        if with_onnx:
            onnx_file.require_onnx()
        return cls(dtype, with_onnx, int8, [existing_path(path, data_root) for path in data or ()], output)

    def open_data(self, folder: RunFolder, run: str, *, of_run: bool = False) -> ScoredData | None:
        """The evaluation data, read and with its prompts; None if none is named.

        of_run: what the run itself was scored on, if none is named.
        """
        paths = list(self.data) or (_data_of(folder) if of_run else [])
        if not paths:
            return None
        loaded = load(paths, ignore_identical_ids=folder.config.evaluation.ignore_identical_ids)
        show_counts(loaded.count_lines())
        chosen = choices_of_run(run)
        choices = [chosen.get(fact["path"], PromptChoice()) for fact in loaded.facts]
        return ScoredData(loaded.with_prompts(inference_prompts(folder.config), choices), max_lengths(folder.config))

    def write(
        self,
        folder: Path,
        encoder: Encoder,
        tokeniser: Tokeniser,
        model: ModelConfig,
        scored: ScoredData | None,
        texts: Sequence[str],
    ) -> None:
        """Add the forms to the folder, whose weights are fp32, and what they change to its model card.

        encoder: with the same weights, on the CPU. texts: whose vectors are compared.

        Raises:
            ValueError: a form gives other vectors than its numbers explain.
        """
        if self.dtype == "fp32" and not self.with_onnx:
            return
        against = _Fp32.of(encoder, tokeniser, texts, model.longest_text, scored)
        if self.with_onnx:
            self.reports += self._write_onnx(folder, encoder, model, against)
        else:
            num_bytes = round_weights(folder, self.dtype)
            rounded = load_encoder(model.model_copy(update={"name_or_path": str(folder)})).eval()
            rounded = rounded.to(TORCH_DTYPES[self.dtype])
            report = against.report("model.safetensors", self.dtype, num_bytes, as_embed(rounded), rounded)
            self.reports.append(report)
        card = folder / "README.md"
        card.write_text(f"{card.read_text(encoding='utf-8')}\n{forms_section(self.reports)}", encoding="utf-8")

    def _write_onnx(self, folder: Path, encoder: Encoder, model: ModelConfig, against: _Fp32) -> list[FormReport]:
        if not onnx_file.write_onnx(folder, encoder):
            warn(
                "onnx/model.onnx has no output sentence_embedding, because this model leaves its prompt out of pooling "
                "and a graph does not see where a prompt ends: pool last_hidden_state without the prompt's tokens"
            )
        path = folder / onnx_file.FILE
        graph = onnx_file.OnnxModel(path, encoder)
        onnx_file.check_onnx(graph, encoder, model.longest_text, str(onnx_file.FILE))
        reports = [against.report(str(onnx_file.FILE), "fp32", _num_bytes(path), graph, encoder)]
        if self.int8:
            onnx_file.quantise_onnx(folder)
            path = folder / onnx_file.QUANTISED_FILE
            small = onnx_file.OnnxModel(path, encoder)
            reports.append(against.report(str(onnx_file.QUANTISED_FILE), "int8", _num_bytes(path), small, encoder))
        return reports

    def show(self, folder: Path, step: int | None) -> None:
        """Print what each form changes, and write it to `output`."""
        from rich.console import Console

        for one in self.reports:
            Console().print(one.line(), soft_wrap=True, highlight=False)
        if self.output is not None:
            facts = {"folder": str(folder), "step": step, "forms": [one.facts() for one in self.reports]}
            replace_file(self.output, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def as_embed(encoder: Encoder) -> Embed:
    """What an encoder on the CPU computes."""

    @torch.no_grad()
    def embed(batch: TokenBatch) -> Tensor:
        return encoder(*batch.on(torch.device("cpu"))).float()

    return embed


def _data_of(folder: RunFolder) -> list[str]:
    """The places of the run's evaluation data, all of which must be there."""
    places = [str(fact["path"]) for fact in folder.read("run.json", {}).get("evaluation_data", [])]
    gone = next((place for place in places if not Path(place).exists()), None)
    if gone is not None:
        raise ValueError(f"--average: got a run scored on {gone}, which is not there any more; name data with --data")
    return places


def _num_bytes(path: Path) -> int:
    """Of an ONNX file and the file of its weights, if there is one."""
    beside = (path.with_name(f"{path.name}{ending}") for ending in ("_data", ".data"))
    return path.stat().st_size + sum(file.stat().st_size for file in beside if file.is_file())
