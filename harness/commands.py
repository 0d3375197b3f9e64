"""Floor 6: what the command line does beside training: evaluate, mine, filter, export, plan."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from harness import comm
from harness.config import LoadedRecipe, inference_prompts, max_lengths
from harness.data.bank.file import BankFacts, open_bank
from harness.data.batch.deal import deal
from harness.data.batch.schedule import padded_per_rank
from harness.data.config import DataConfig, PromptsConfig
from harness.data.plan.plan import plan
from harness.data.source.locate import cache_root, locate
from harness.data.table.index import TableConfig, TaskData, open_table
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig, PoolingMode
from harness.encoder.encoder import Encoder, config_of_folder, fingerprint, load_encoder
from harness.encoder.layout import read_layout
from harness.engine.budget import CPU_TOKENS, micro_batch_tokens
from harness.evaluation.runner import evaluate, results_table
from harness.filtering.config import FilterConfig
from harness.filtering.filter import FilterRequest, filter_pairs, finished_report
from harness.filtering.report import PAGE, summary
from harness.mining.mine import MineSettings, mine, refuse_finished
from harness.report.console import MiningConsole, ReadingConsole
from harness.report.page import write_report
from harness.run.export import export_model
from harness.run.folder import RunFolder, is_run, model_folder
from harness.run.tasks import open_tasks
from harness.search.encode import TextEncoder
from harness.types import EncodingRole, QueryPart, SourceKind, StepPlan, TokenBatch
from harness.weights import resolve_model

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LONGEST_NAME = 100  # of a folder, characters
_EXPORT_CHECK_TEXTS = ("A text to compare.", "Another one, a little longer than the first.", "第三句话。", "x")


def evaluate_model(
    model: str,
    data: list[str],
    *,
    output: Path | None = None,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    dims: list[int] | None = None,
    data_root: Path | None = None,
    precision: str = "fp32",
) -> dict[str, dict[str, float]]:
    """Score a run folder, a checkpoint, or any Hugging Face or sentence-transformers model; print a table.

    Under the launcher the texts are shared between the ranks. `output`: a JSON file
    `{"model": ..., "datasets": {NAME: {METRIC: value}}}` with mteb's metric names.
    """
    if "RANK" in os.environ:
        comm.initialise()
    opened = _open_model(model, max_length, pooling, precision)
    results = evaluate(opened.encode, [_existing(path, data_root) for path in data], dims)
    if comm.is_main():
        Console().print(results_table(results))
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps({"model": model, "datasets": results}, indent=2) + "\n")
    comm.shutdown()
    return results


def mine_bank(
    model: str,
    queries: str,
    *,
    corpus: str | None,
    out: Path,
    settings: MineSettings,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    data_root: Path | None = None,
    precision: str = "fp32",
) -> None:
    """Rank a corpus (default: the training file's own documents) for every training query; write a bank.

    Under the launcher the work is shared between the ranks. A start that was killed is continued.
    """
    if "RANK" in os.environ:
        comm.initialise()
    refuse_finished(out)
    opened = _open_model(model, max_length, pooling, precision)
    data = opened.read("retrieval", os.path.abspath(_existing(queries, data_root)))
    documents = None if corpus is None else opened.read("corpus", os.path.abspath(_existing(corpus, data_root)))
    encode, ranked_by = opened.encode.without_prompts(), opened.identity()
    with MiningConsole() as console:
        facts = mine(encode, data, documents, settings, out, opened.pair_prompts, ranked_by, console.progress)
    if comm.is_main():
        count_R = open_bank(out, data, documents, 0).count_R
        table = documents or data
        Console().print(
            f"{data.num_rows:,} queries, {int(np.median(count_R))} candidates each (median; at least "
            f"{int(count_R.min())}), from {table.path}; {_said(facts)}\n"
            f"bank: {out}; in a recipe: negatives: {{per_query: 4, bank: {out}, offset: 10}}",
            soft_wrap=True,
            highlight=False,
        )
    comm.shutdown()


def _said(facts: BankFacts) -> str:
    """The filters and the search of a bank in words."""
    limits = [f"--{name} {value:g}" for name, value in facts.filters.items() if value is not None]
    search = "exact search" if facts.search["index"] == "exact" else "{index} search, recall {recall:.3f}"
    return f"{', '.join(limits) or 'no filter'}; {search.format(**facts.search)}"


def filter_data(
    model: str,
    data: str,
    *,
    corpus: str | None,
    out: Path,
    config: FilterConfig,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    data_root: Path | None = None,
    precision: str = "fp32",
) -> None:
    """Keep the pairs of a data set that pass all stages of `config`; write rows and report, and print the counts.

    Under the launcher the work is shared between the ranks. A start that was killed is continued; a finished one with
    the same settings shows its report.
    """
    if corpus is not None and config.consistency_top_k is None:
        raise ValueError(f"--corpus: got {corpus} without --consistency-top-k, expected both; add it or leave both out")
    if "RANK" in os.environ:
        comm.initialise()
    place, corpus_place = (None if path is None else _existing(path, data_root) for path in (data, corpus))
    opened = _open_model(model, max_length, pooling, precision)
    documents = None if corpus_place is None else opened.read("corpus", corpus_place)
    prompts, scored_by = opened.pair_prompts, opened.identity()
    request = FilterRequest(str(place), "train", documents, config, prompts, scored_by, out, ReadingConsole(data))
    facts = request.facts()
    report = finished_report(request, facts)
    if report is None:
        with MiningConsole() as console:
            report = filter_pairs(opened.encode.without_prompts(), request, facts, console.progress)
    if comm.is_main():
        Console().print(f"{summary(report)}\nreport: {out / PAGE}", soft_wrap=True, highlight=False, markup=False)
    comm.shutdown()


def _existing(path: str, data_root: Path | None) -> str:
    return locate(path, recipe_folder=None, data_root=data_root, cache_root=cache_root(None), allow_hub=False)


@dataclass(frozen=True, slots=True)
class _OpenedModel:
    """A model to embed texts with, as it is used: lengths and prompts of its run, or of its folder."""

    name: str
    encoder: Encoder
    tokeniser: Tokeniser
    max_lengths: dict[EncodingRole, int]
    prompts: dict[EncodingRole, str]
    encode: TextEncoder

    @property
    def pair_prompts(self) -> PromptsConfig:
        return PromptsConfig(query=self.prompts["query"], document=self.prompts["document"])

    @property
    def pair_lengths(self) -> tuple[int, int]:
        return self.max_lengths["query"], self.max_lengths["document"]

    def identity(self) -> dict[str, Any]:
        """All that its embeddings depend on, but rounding."""
        return {
            "model": self.name,
            "weights": fingerprint(self.encoder.state_dict()),
            "pooling": self.encoder.pooling,
            "prompts": self.pair_prompts.model_dump(),
            "max_lengths": list(self.pair_lengths),
        }

    def read(self, kind: SourceKind, place: str) -> TaskData:
        """The texts at a path."""
        name = Path(place).name
        table = TableConfig(name, kind, "train", self.pair_prompts, self.pair_lengths)
        return open_table(table, place, DataConfig(), self.tokeniser, progress=ReadingConsole(name))


def _open_model(model: str, max_length: int | None, pooling: PoolingMode | None, precision: str) -> _OpenedModel:
    folder = RunFolder.containing(Path(model)) if is_run(model) else None
    config = config_of_folder(str(model_folder(model)), max_length=max_length, pooling=pooling)
    encoder = load_encoder(config).to(comm.device(), _DTYPES[precision]).eval()
    tokeniser = Tokeniser(config.name_or_path)
    lengths = _lengths(config) if folder is None or max_length else max_lengths(folder.config)
    prompts = _stored_prompts(config) if folder is None else inference_prompts(folder.config)
    encode = TextEncoder(
        lambda batch: _forward(encoder, batch),
        tokeniser,
        max_lengths=lengths,
        prompts=prompts,
        micro_batch_tokens=micro_batch_tokens("auto", encoder, precision),
    )
    return _OpenedModel(model, encoder, tokeniser, lengths, prompts, encode)


def export_run(run: Path, out: Path) -> None:
    """Write a run's (or a checkpoint's) model as a sentence-transformers folder, and compare it before saying done."""
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"--out: got {out}, which is not empty, expected a new folder")
    folder = RunFolder.containing(run)
    source = model_folder(str(run))
    config = folder.config.model.model_copy(update={"name_or_path": source})
    checkpoint = Path(source).parent / "state.json"
    step = int(json.loads(checkpoint.read_text())["step"]) if checkpoint.is_file() else None
    encoder, tokeniser = load_encoder(config).eval(), Tokeniser(source)
    difference = export_model(out, folder, encoder, tokeniser, model=config, step=step, check_texts=_EXPORT_CHECK_TEXTS)
    Console().print(f"exported {out}: embeddings equal the training model's within {difference:.1e}", soft_wrap=True)


def draw_report(runs: list[Path], out: Path | None) -> None:
    """Write report.html and figures/ for one run, or for several side by side."""
    folders = [RunFolder.containing(run) for run in runs]
    if out is None and len(folders) == 1:
        out = folders[0].path
    elif out is None:
        names = [folder.path.absolute().name for folder in folders]
        out = folders[0].path.absolute().parent / "-".join(["report", *names])[:_LONGEST_NAME]
    page = write_report([folder.history() for folder in folders], out)
    Console().print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)


def show_plan(loaded: LoadedRecipe, step: int, ranks: int) -> None:
    """Print what step `step` holds and how its texts would be dealt to `ranks` ranks. Needs data and tokenizer only."""
    config = loaded.config
    tasks = open_tasks(loaded, Tokeniser(config.model.name_or_path, config.model.trust_remote_code))
    made = plan(tasks, seed=config.training.seed, step=step, balance=config.loss.balance)
    budget = config.training.micro_batch_tokens
    tokens = CPU_TOKENS if budget == "auto" else budget
    scheduled = deal(made.texts.length_T, ranks, tokens)
    padded_W = padded_per_rank(scheduled, made.texts.length_T)
    console = Console()
    console.print(_parts_table(made))
    table = Table(title=f"dealt to {ranks} rank{'s' if ranks > 1 else ''}, micro-batches of at most {tokens} tokens")
    for column in ("rank", "texts", "tokens", "padded tokens", "micro-batches"):
        table.add_column(column, justify="right")
    for rank, batches in enumerate(scheduled.micro_batches):
        lengths = [made.texts.length_T[rows] for rows in batches if len(rows)]
        counts = (sum(map(len, lengths)), sum(int(length.sum()) for length in lengths), padded_W[rank], len(lengths))
        table.add_row(str(rank), *map(str, counts))
    console.print(table)


def _parts_table(made: StepPlan) -> Table:
    kinds = Counter(type(part).__name__ for part in made.parts)
    title = f"step {made.step}: {len(made.texts)} unique texts, {int(made.texts.length_T.sum())} tokens"
    table = Table(title=f"{title}, tasks: {kinds['QueryPart']} of queries, {kinds['PairPart']} of pairs")
    for column in ("task", "examples", "documents", "own negatives", "masked pairs", "negatives scope"):
        table.add_column(column, justify="left" if column in ("task", "negatives scope") else "right")
    for part in made.parts:
        if isinstance(part, QueryPart):
            own = int((part.negative_BM >= 0).sum())
            masked = len(part.excluded_pairs()[0])
            counts = (len(part.query_B), len(part.document_N), own, masked)
            table.add_row(part.task, *map(str, counts), part.scope)
        else:
            table.add_row(part.task, str(len(part.score_S)), "", "", "", "")
    return table


def _lengths(config: ModelConfig) -> dict[EncodingRole, int]:
    return {"query": config.max_length, "document": config.max_length, "sentence": config.max_length}


def _stored_prompts(config: ModelConfig) -> dict[EncodingRole, str]:
    """The prompts a sentence-transformers folder brings; `passage` is what some call a document."""
    prompts = read_layout(resolve_model(config.name_or_path)).prompts
    document = prompts.get("document", prompts.get("passage", ""))
    return {"query": prompts.get("query", ""), "document": document, "sentence": prompts.get("sentence", "")}


@torch.no_grad()
def _forward(encoder: Encoder, batch: TokenBatch) -> torch.Tensor:
    device = comm.device()
    return encoder(batch.input_ids_BL.to(device), batch.attention_mask_BL.to(device)).float()
