"""`harness mine`: a bank of ranked hard negatives for every query of a training file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import (
    Columns,
    DataRoot,
    DocumentPrompt,
    MaxLength,
    Model,
    Pooling,
    Precision,
    PromptName,
    QueryPrompt,
    TrustRemoteCode,
    Verbose,
    column_names,
    existing_path,
)
from harness.model_folder.pooling import PoolingMode
from harness.prompts import PromptChoice

if TYPE_CHECKING:
    from harness.cli.parts.opened_model import OpenedModel
    from harness.data.bank.file import BankFacts
    from harness.data.table.index import TaskData
    from harness.mining.cross_encoder.rescore import Rescoring
    from harness.mining.mine import MineSettings


def mine(
    model: Model,
    queries: Annotated[str, typer.Option(metavar="FILE", help="The training data: queries with their positives.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The bank to write; a killed start is continued.")],
    corpus: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Documents to search, one a row (text, [title]). Default: the data's own."),
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Ranked candidates per query.")] = 100,
    relative: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Keep candidates below this share of the positive's score (NV-Retriever: 0.95)."
        ),
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Keep candidates below the positive's score less this.")] = None,
    cross_encoder: Annotated[
        str | None,
        typer.Option(
            "--cross-encoder",
            metavar="FOLDER",
            help="Rank the candidates by this CrossEncoder of sentence-transformers, whose scores --relative and "
            "--margin then mean. Writes audit.jsonl and, to distil it, train.jsonl.gz, too.",
        ),
    ] = None,
    relabel: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SHARE",
            help="With --cross-encoder: candidates that it gives this share of the positive's score become positives.",
        ),
    ] = None,
    index: Annotated[
        Literal["exact", "ivf", "hnsw"],
        typer.Option(help="ivf, hnsw: approximate search by FAISS, on CPUs, of corpora above --index-above."),
    ] = "exact",
    index_above: Annotated[
        int, typer.Option(min=0, metavar="N", help="Documents up to which search is exact.")
    ] = 1_000_000,
    columns: Columns = None,
    max_length: MaxLength = None,
    pooling: Pooling = None,
    query_prompt: QueryPrompt = None,
    document_prompt: DocumentPrompt = None,
    prompt_name: PromptName = None,
    precision: Precision = "fp32",
    data_root: DataRoot = None,
    trust_remote_code: TrustRemoteCode = False,
    verbose: Verbose = False,
) -> None:
    """Rank a corpus for every training query: a bank of hard negatives, for `tasks.NAME.negatives.bank`.

    A query's positives, also those of other rows with the same query, and documents equal to them are left out.

    - `harness mine demo-minilm --queries train/faq.jsonl.gz --out banks/faq`

    - `harness mine runs/demo --queries faq.jsonl --corpus corpus.jsonl --relative 0.95 --out banks/faq`

    - `harness mine demo-minilm --queries faq.jsonl --cross-encoder my_ranker --relative 0.95 --out banks/faq`
    """
    with mistakes_in_one_line(verbose):
        from harness.mining.config import MOST_CANDIDATES

        if candidates > MOST_CANDIDATES:
            raise ValueError(f"--candidates: got {candidates:,}, expected at most {MOST_CANDIDATES:,} per query")
        from harness.mining.mine import MineSettings

        mine_bank(
            model,
            queries,
            corpus=corpus,
            out=out,
            settings=MineSettings(candidates, relative, margin, index, index_above),
            columns=column_names(columns),
            max_length=max_length,
            pooling=pooling,
            data_root=data_root,
            precision=precision,
            choice=PromptChoice(query_prompt, document_prompt, prompt_name),
            trust_remote_code=trust_remote_code,
            cross_encoder=cross_encoder,
            relabel=relabel,
        )


def mine_bank(
    model: str,
    queries: str,
    *,
    corpus: str | None,
    out: Path,
    settings: MineSettings,
    columns: Mapping[str, str | tuple[str, ...]] | None = None,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    data_root: Path | None = None,
    precision: str = "fp32",
    choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
    trust_remote_code: bool = False,
    cross_encoder: str | None = None,
    relabel: float | None = None,
) -> None:
    """Rank a corpus (default: the training file's own documents) for every training query; write a bank.

    Under the launcher, the ranks divide the work. A killed run is continued.
    """
    _check_relabel(settings, cross_encoder, relabel)
    from harness import comm, rank0
    from harness.cli.parts.opened_model import open_model
    from harness.hosts import watch
    from harness.mining.mine import output_folder, refuse_finished
    from harness.report.messages import say

    watch.join_if_launched()
    refuse_finished(out)
    rank0.by_main(lambda: _check_room(out))
    with output_folder(out, say).claimed("mine"):
        opened = open_model(model, max_length, pooling, precision, choice, trust_remote_code)
        opened.show_prompts()
        files = _given(queries, data_root), None if corpus is None else _given(corpus, data_root)
        rescoring = _rescoring(cross_encoder, relabel, trust_remote_code)
        facts, data, documents = _read_and_mine(opened, *files, columns or {}, settings, out, rescoring)
    if comm.is_main():
        _print_summary(out, facts, data, documents)
    comm.shutdown()


def _read_and_mine(
    opened: OpenedModel,
    queries: str,
    corpus: str | None,
    columns: Mapping[str, Any],
    settings: MineSettings,
    out: Path,
    rescoring: Rescoring | None,
) -> tuple[BankFacts, TaskData, TaskData | None]:
    """Read the queries and the corpus, and write the bank. Returns what is in it and what it was made of."""
    from harness import rank0
    from harness.data.source.facts import ReadSettings
    from harness.mining.mine import mine
    from harness.report.console import MiningConsole

    data = opened.read("retrieval", queries, ReadSettings(columns))
    rank0.by_main(lambda: _check_room(out, data.num_rows * settings.num_candidates))
    documents = None if corpus is None else opened.read("corpus", corpus)
    encode, ranked_by = opened.encode.without_prompts(), opened.identity()
    with MiningConsole() as console:
        facts = mine(encode, data, documents, settings, out, opened.prompts, ranked_by, console.progress, rescoring)
    return facts, data, documents


def _check_relabel(settings: MineSettings, cross_encoder: str | None, relabel: float | None) -> None:
    from harness.mining.cross_encoder.judge import Limits

    if relabel is not None and cross_encoder is None:
        raise ValueError(
            f"--relabel: got {relabel:g} without --cross-encoder, expected both: similarities alone make no positives; "
            "name a cross-encoder, or leave it out"
        )
    Limits(settings.relative, settings.margin, relabel).check()


def _rescoring(cross_encoder: str | None, relabel: float | None, trust_remote_code: bool) -> Rescoring | None:
    """The cross-encoder that ranks the candidates, loaded on this rank; None if there is none."""
    if cross_encoder is None:
        return None
    from harness import rank0
    from harness.mining.cross_encoder.rescore import Rescoring
    from harness.mining.cross_encoder.scorer import CrossEncoderScorer

    rank0.by_main(lambda: CrossEncoderScorer.check(cross_encoder, trust_remote_code))
    return Rescoring(CrossEncoderScorer.load(cross_encoder, trust_remote_code), relabel)


def _given(data: str, data_root: Path | None) -> str:
    return os.path.abspath(existing_path(data, data_root))


def _check_room(out: Path, num_candidates: int = 0) -> None:
    """Check that a bank of so many candidates can be written."""
    from harness.files import check_output, folder_size
    from harness.mining.bank_writer import BYTES_PER_CANDIDATE

    check_output(out, "--out", num_candidates * BYTES_PER_CANDIDATE - folder_size(out))


def _print_summary(bank: Path, facts: BankFacts, data: TaskData, documents: TaskData | None) -> None:
    """Print how many candidates the bank holds, how they were found, and how a recipe names the bank."""
    import numpy as np
    from rich.console import Console

    from harness.data.bank.file import open_bank

    count_R = open_bank(bank, data, documents, 0).count_R
    table, is_rescored = documents or data, "cross_encoder" in facts.search
    is_limited = any(facts.filters[name] is not None for name in ("relative", "margin"))
    # The first ten may be unlabelled positives (the paper's offset), but a short list has none to spare, and what a
    # cross-encoder finds likely positives is not among them.
    offset = 10 if np.median(count_R) >= 14 and not (is_rescored and is_limited) else 0
    lines = [
        f"{data.num_rows:,} queries, {int(np.median(count_R))} candidates each (median; at least "
        f"{int(count_R.min())}), from {table.path}; {filters_and_search(facts)}",
        f"bank: {bank}; in a recipe: negatives: {{per_query: 4, bank: {bank}, offset: {offset}}}",
    ]
    if is_rescored:
        from harness.mining.cross_encoder.rescore import AUDIT
        from harness.mining.cross_encoder.training_rows import TRAIN

        counts = facts.search["cross_encoder"]
        lines += [
            f"{counts['scored']:,} candidates scored, {counts['dropped']:,} dropped as likely positives, "
            f"{counts['relabelled']:,} relabelled: {bank / AUDIT}",
            f"the cross-encoder puts a known positive first for {counts['positive_first']:,} of {counts['queries']:,} "
            "different queries; if these are few, it does not know such texts, and its changes are noise",
            f"to distil the cross-encoder: path: {bank / TRAIN}, loss: kl, negatives: {{per_query: 4}}",
        ]
    Console().print("\n".join(lines), soft_wrap=True, highlight=False)


def filters_and_search(facts: BankFacts) -> str:
    """The filters and the search of a bank in words."""
    limits = [f"--{name} {value:g}" for name, value in facts.filters.items() if value is not None]
    search = "exact search" if facts.search["index"] == "exact" else "{index} search, recall {recall:.3f}"
    is_judged = "cross_encoder" in facts.search  # whose scores mean something else, so that 0.95 is no advice
    advice = "" if is_judged else " (--relative 0.95, for likely positives, helped in docs/negatives.md)"
    return f"{', '.join(limits) or 'no filter' + advice}; {search.format(**facts.search)}"
