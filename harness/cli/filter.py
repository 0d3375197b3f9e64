"""`harness filter`: the pairs of a data set that are worth training on."""

from __future__ import annotations

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
    from harness.filtering.config import FilterConfig


def filter_(
    model: Model,
    data: Annotated[str, typer.Argument(help="The pairs: queries with their positives, or prompts with responses.")],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where train.jsonl.gz and the report go; a killed start is continued."),
    ],
    min_score: Annotated[float, typer.Option(min=-1, max=1, help="Drop pairs with a lower cosine.")] = 0.4,
    consistency_top_k: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="K", help="Drop pairs whose positive is not among the K documents nearest to its query."
        ),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(metavar="FILE", help="Those documents (text, [title]). Default: the data's own.")
    ] = None,
    corpus_sample: Annotated[int, typer.Option(min=1, metavar="N", help="How many of them are drawn.")] = 1_000_000,
    duplicates: Annotated[
        Literal["none", "exact", "near"], typer.Option(help="Drop repeated pairs: near takes the exact ones, too.")
    ] = "near",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change another limit, e.g. `rules.max_characters=2000` or `near_threshold=0.9`. May be repeated.",
        ),
    ] = None,
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
    """Keep the pairs of a data set that are worth training on, and report what was dropped and why.

    In this order: junk, exact and near duplicates, pairs that the model scores low, inconsistent pairs.

    - `harness filter demo-minilm pairs.jsonl.gz --min-score 0.4 --out filtered/pairs`

    - `harness filter runs/demo pairs.parquet --consistency-top-k 2 --set rules.min_characters=10 --out filtered/pairs`
    """
    with mistakes_in_one_line(verbose):
        options = {"min_score": min_score, "consistency_top_k": consistency_top_k, "corpus_sample": corpus_sample}
        filter_data(
            model,
            data,
            corpus=corpus,
            out=out,
            config=_checked_config({**options, "duplicates": duplicates}, overrides or []),
            columns=column_names(columns),
            max_length=max_length,
            pooling=pooling,
            data_root=data_root,
            precision=precision,
            choice=PromptChoice(query_prompt, document_prompt, prompt_name),
            trust_remote_code=trust_remote_code,
        )


def _checked_config(options: dict[str, Any], overrides: list[str]) -> FilterConfig:
    """The options and the `--set KEY=VALUE` of the command line as a FilterConfig."""
    from harness.filtering.config import FilterConfig
    from harness.settings.recipe_file import apply_override, build

    return build(FilterConfig, options, "filter", [apply_override(options, override) for override in overrides])


def _check_corpus(corpus: str | None, config: FilterConfig) -> None:
    if corpus is not None and config.consistency_top_k is None:
        raise ValueError(f"--corpus: got {corpus} without --consistency-top-k, expected both; add it or leave both out")


def filter_data(
    model: str,
    data: str,
    *,
    corpus: str | None,
    out: Path,
    config: FilterConfig,
    columns: Mapping[str, str | tuple[str, ...]] | None = None,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    data_root: Path | None = None,
    precision: str = "fp32",
    choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
    trust_remote_code: bool = False,
) -> None:
    """Keep the pairs that pass all filters; write them and a report. A killed start goes on, a finished one is read."""
    from harness import comm
    from harness.cli.parts.opened_model import open_model
    from harness.data.source.facts import ReadSettings
    from harness.filtering.filter import FilterRequest, earlier_report, filter_pairs, output_folder
    from harness.hosts import watch
    from harness.report.console import MiningConsole, ReadingConsole
    from harness.report.messages import say

    watch.join_if_launched()
    _check_corpus(corpus, config)
    data_path, corpus_path = (None if path is None else existing_path(path, data_root) for path in (data, corpus))
    with output_folder(out, say).claimed("filter"):
        opened = open_model(model, max_length, pooling, precision, choice, trust_remote_code)
        opened.show_prompts()
        documents = None if corpus_path is None else opened.read("corpus", corpus_path)
        reading = opened.tokeniser, opened.prompts, opened.pair_lengths, opened.identity()
        places = out, ReadingConsole(data), ReadSettings(columns or {})
        request = FilterRequest(str(data_path), "train", documents, config, *reading, *places)
        facts = request.facts()
        if (report := earlier_report(request, facts)) is None:
            with MiningConsole() as console:
                report = filter_pairs(opened.encode.without_prompts(), request, facts, console.progress)
    _show(report, out)
    comm.shutdown()


def _show(report: dict[str, Any], out: Path) -> None:
    """Print how many rows were kept and dropped, and where the report lies."""
    from harness.filtering.report import PAGE, summary, warnings
    from harness.report.messages import say, warn

    say(f"{summary(report)}\nreport: {out / PAGE}")
    for line in warnings(report):
        warn(line)
