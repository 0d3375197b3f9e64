"""`harness evaluate`: the scores of a model on local data, or on the tasks of mteb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import (
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
    existing_path,
)
from harness.cli.parts.mteb_options import (
    Benchmark,
    InstructionTemplate,
    Language,
    ModelMeta,
    ModelName,
    Overwrite,
    PromptsFile,
    Results,
    Revision,
    TaskFile,
    Tasks,
    mteb_request,
)
from harness.model_folder.pooling import PoolingMode
from harness.prompts import PromptChoice

if TYPE_CHECKING:
    from harness.cli.parts.opened_model import OpenedModel
    from harness.evaluation.runner import LoadedData
    from harness.evaluation.runner import Results as Scores
    from harness.report.console import EvaluationConsole


def evaluate(
    model: Model,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Files and folders as docs/data.md lists them, or names under --data-root."),
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the scores as JSON, too.")] = None,
    max_length: MaxLength = None,
    pooling: Pooling = None,
    dims: Annotated[
        list[int] | None,
        typer.Option(
            "--dim", min=1, help="Score embeddings cut to so many dimensions, too (Matryoshka). May be repeated."
        ),
    ] = None,
    quantised: Annotated[
        bool,
        typer.Option("--quantised", help="Score int8 and binary vectors, too, of every --dim and of all dimensions."),
    ] = False,
    query_prompt: QueryPrompt = None,
    document_prompt: DocumentPrompt = None,
    prompt_name: PromptName = None,
    ignore_identical_ids: Annotated[
        bool,
        typer.Option(
            "--ignore-identical-ids",
            help="Retrieval: never rank the document with the query's id, as some tasks of mteb do. "
            "Without it, such a document is left out only if its text is the query's, too.",
        ),
    ] = False,
    precision: Precision = "fp32",
    data_root: DataRoot = None,
    trust_remote_code: TrustRemoteCode = False,
    benchmark: Benchmark = None,
    tasks: Tasks = None,
    language: Language = None,
    task_file: TaskFile = None,
    results: Results = None,
    model_name: ModelName = None,
    revision: Revision = None,
    model_meta: ModelMeta = None,
    prompts: PromptsFile = None,
    instruction_template: InstructionTemplate = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> None:
    """Score a model on local data: retrieval, reranking, STS, pair classification, classification, clustering.

    Or on the tasks of mteb, with `--benchmark` or `--tasks`: see docs/evaluation.md.

    JSON: `{"datasets": {NAME: {"ndcg_at_10": ..., "spearman": ..., "accuracy": ...}}}`, each with its kind's metrics; a
    score that is not defined is null.

    - `harness evaluate runs/demo data/retrieval/my_questions`

    - `harness evaluate demo-minilm sts/stsb_en/test.jsonl.gz --data-root ~/data --output scores.json`

    - `harness evaluate runs/demo --benchmark "MTEB(cmn, v1)"`

    - `harness evaluate runs/demo --tasks T2Retrieval STS12 --dim 256`
    """
    with mistakes_in_one_line(verbose):
        choice = PromptChoice(query_prompt, document_prompt, prompt_name)
        shared: dict[str, Any] = {
            "output": output, "max_length": max_length, "pooling": pooling, "dims": dims, "precision": precision,
            "choice": choice, "trust_remote_code": trust_remote_code,
        }  # fmt: skip
        given = {
            "benchmark": benchmark, "tasks": tasks, "languages": language, "task_file": task_file, "results": results,
            "model_name": model_name, "revision": revision, "model_meta": model_meta, "prompts": prompts,
            "template": instruction_template, "overwrite": overwrite or None,
        }  # fmt: skip
        request = mteb_request(given, data or [], data_root, ignore_identical_ids)
        if request is None:
            local: dict[str, Any] = {"data_root": data_root, "ignore_identical_ids": ignore_identical_ids}
            evaluate_model(model, data or [], quantised=quantised, **local, **shared)
            return
        if quantised:
            raise ValueError("--quantised: got it with tasks of mteb, expected data of your own; leave out one of them")
        from harness.cli.parts.mteb_evaluation import MtebRequest, evaluate_on_mteb

        evaluate_on_mteb(model, MtebRequest(**request), **{**shared, "dims": dims or ()})


def evaluate_model(
    model: str,
    data: list[str],
    *,
    output: Path | None = None,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    dims: list[int] | None = None,
    quantised: bool = False,
    data_root: Path | None = None,
    precision: str = "fp32",
    choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
    ignore_identical_ids: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, dict[str, float]]:
    """Score a run folder, a checkpoint, or any Hugging Face or sentence-transformers model; print a table.

    Under the launcher, each rank encodes a part of the texts. `output`: a JSON file
    `{"model", "datasets": {NAME: {METRIC: value}}, "prompts", "data"}`, mteb's metric names, facts of `LoadedData`.
    """
    from harness import comm, rank0
    from harness.cli.parts.opened_model import find_model
    from harness.evaluation.runner import load
    from harness.hosts import watch
    from harness.report.console import EvaluationConsole
    from harness.report.messages import show_counts

    watch.join_if_launched()
    rank0.by_main(lambda: _check(output))
    paths, console = [existing_path(path, data_root) for path in data], EvaluationConsole()
    found = find_model(model, max_length, pooling, trust_remote_code)
    loaded = load(paths, ignore_identical_ids=ignore_identical_ids)
    show_counts(loaded.count_lines())
    loaded = _with_prompts(loaded, opened := found.open(precision, choice, console), choice)
    results = _scores(opened, loaded, dims, quantised, console)
    if comm.is_main():
        _show(output, model, results, loaded)
    comm.shutdown()
    return results


def _check(output: Path | None) -> None:
    from harness.files import check_output
    from harness.ownership.files import is_json_with, refuse_foreign_file

    if output is not None:
        check_output(output, "--output", is_file=True)
        refuse_foreign_file(output, "--output", "a file of scores", is_json_with("model", "datasets"))


def _scores(
    opened: OpenedModel, loaded: LoadedData, dims: list[int] | None, quantised: bool, console: EvaluationConsole
) -> Scores:
    from harness.evaluation.runner import evaluate

    results: Scores = {}
    for name, part in loaded.one_by_one():
        console.start(name)
        results |= evaluate(opened.encode, part, dims, quantised=quantised)
    return results


def _with_prompts(loaded: LoadedData, opened: OpenedModel, choice: PromptChoice) -> LoadedData:
    """The data with its prompts: those that are asked for, of the run's recipe, or the model's. Says which."""
    from harness.cli.parts.opened_model import choices_of_run
    from harness.prompts.notes import command_warnings, lines_of_data
    from harness.report.messages import say, warn

    chosen_in_run = {} if choice.is_given else choices_of_run(opened.name)
    loaded = loaded.with_prompts(opened.model_prompts, [chosen_in_run.get(f["path"], choice) for f in loaded.facts])
    for line in lines_of_data(loaded.kinds, loaded.prompts):
        say(line)
    for warning in command_warnings(opened.model_prompts, choice, loaded.kinds, loaded.prompts):
        warn(warning)
    return loaded


def _show(output: Path | None, model: str, results: Scores, loaded: LoadedData) -> None:
    """Print the scores, and write them to `output` if it is given."""
    from dataclasses import asdict

    from rich.console import Console

    from harness.evaluation.results import json_values, results_table, sizes_table
    from harness.export.formats.sizes import size_rows
    from harness.files import replace_file

    Console().print(results_table(results))
    if (sizes := sizes_table(results)) is not None:
        Console().print(sizes)
    if output is None:
        return
    prompts = {fact["name"]: fact["prompts"] for fact in loaded.facts}
    values = json_values(results)
    facts = {"model": model, "datasets": values, "prompts": prompts, "data": loaded.facts}
    if rows := size_rows(values):
        facts["sizes"] = [{**asdict(row), "bytes": row.num_bytes} for row in rows]
    replace_file(output, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
