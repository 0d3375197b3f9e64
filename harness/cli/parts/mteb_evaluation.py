"""`harness evaluate --benchmark ...` and `--tasks ...`: a model's scores on mteb's own tasks, in mteb's own files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash
from rich.console import Console

from harness import comm, rank0
from harness.cli.parts.opened_model import FoundModel, OpenedModel, find_model
from harness.encoder.load import config_of_folder
from harness.evaluation.mteb.available import require_mteb, unchanged_process
from harness.evaluation.mteb.outcome import Outcome
from harness.evaluation.mteb.ranks import Ask, Ranks, together
from harness.evaluation.results import json_values
from harness.files import check_output, replace_file
from harness.hosts import watch
from harness.model_folder.find import is_path, published_name
from harness.model_folder.pooling import PoolingMode
from harness.ownership.claim import OutputFolder
from harness.ownership.files import is_json_with, refuse_foreign_file
from harness.prompts import PromptChoice
from harness.report.console import EvaluationConsole
from harness.report.messages import say, warn
from harness.waits import waits

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask
    from mteb.models import ModelMeta

    from harness.evaluation.mteb.meta import ModelFacts
    from harness.evaluation.mteb.prompts import TaskPrompts


@dataclass(frozen=True, slots=True)
class MtebRequest:
    """What the command line asks for. results: mteb's folder, which holds `results/ORG__NAME/REVISION/TASK.json`."""

    benchmark: str | None = None
    tasks: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    task_file: Path | None = None
    data: Path | None = None
    results: Path = Path("mteb")
    model_name: str | None = None
    revision: str | None = None
    model_meta: Path | None = None
    prompts: Path | None = None
    template: str | None = None
    overwrite: bool = False


@dataclass
class _OnRank0:
    """What only rank 0 holds, because only rank 0 imports mteb."""

    tasks: list[AbsTask] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    meta: ModelMeta | None = None
    facts: ModelFacts | None = None


def evaluate_on_mteb(
    model: str,
    request: MtebRequest,
    *,
    output: Path | None = None,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    dims: Sequence[int] = (),
    precision: str = "fp32",
    choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
    trust_remote_code: bool = False,
) -> Outcome:
    """Score a model on tasks of mteb; print tables. Under the launcher all ranks encode and search.

    Raises:
        ValueError: a mistake in what was given; or, after all others are scored, tasks that have no scores.
    """
    watch.join_if_launched()
    held = _OnRank0()
    rank0.by_main(lambda: _check(held, request, output, dims))
    found = _with_one_length(find_model(model, max_length, pooling, trust_remote_code))
    console = EvaluationConsole()
    opened = found.open(precision, choice, console)
    dim = dims[0] if dims else None
    settings = {"embed_dim": dim, "max_length": max_length, "precision": None if precision == "fp32" else precision}
    folder = Path(rank0.by_main(lambda: _introduce(held, request, found, opened, settings)))
    owned = OutputFolder(folder, "--results", "a folder of mteb results that harness evaluate wrote", _is_ours, say,
                         own_names=("experiments",))  # fmt: skip
    with owned.claimed():
        outcome = _run(held, request, opened, folder, dim, console)
    if comm.is_main():
        _show(held, request, outcome, folder, output, model)
    _refuse_problems(outcome)
    comm.shutdown()
    return outcome


def _with_one_length(found: FoundModel) -> FoundModel:
    """In mteb, as in sentence-transformers, all texts are cut to one length."""
    length = found.config.max_length
    return replace(found, max_lengths={"query": length, "document": length, "sentence": length})


def _refuse_problems(outcome: Outcome) -> None:
    if outcome.problems:
        raise ValueError(
            f"{len(outcome.problems)} of {outcome.num_tasks} tasks have no scores: {', '.join(outcome.problems)}; the "
            "lines above say why, and the same command goes on with them"
        )


def _is_ours(folder: Path) -> bool:
    from harness.evaluation.mteb.meta import is_results_folder

    return is_results_folder(folder)


def _check(held: _OnRank0, request: MtebRequest, output: Path | None, dims: Sequence[int]) -> None:
    """All that can be wrong before a model is loaded. Fills in the tasks."""
    require_mteb("--benchmark" if request.benchmark else "--tasks")
    if len(dims) > 1:
        raise ValueError(f"--dim: got {', '.join(map(str, dims))}, expected one for mteb; start it again for each")
    if output is not None:
        check_output(output, "--output", is_file=True)
        refuse_foreign_file(output, "--output", "a file of scores", is_json_with("model", "datasets"))
    check_output(request.results, "--results")
    if request.data is not None and not request.data.is_dir():
        raise ValueError(f"--data-root: got {request.data}, expected an existing folder")
    with unchanged_process():
        from harness.evaluation.mteb.meta import read_model_meta
        from harness.evaluation.mteb.prompts import check_template, read_prompts
        from harness.evaluation.mteb.select import Selection, selected_tasks

        check_template(request.template)
        selection = Selection(request.benchmark, request.tasks, request.languages, request.task_file, request.data)
        held.tasks = selected_tasks(selection)
        names = [task.metadata.name for task in held.tasks]
        held.given = {} if request.prompts is None else read_prompts(request.prompts, names)
        held.card = {} if request.model_meta is None else read_model_meta(request.model_meta)


def _introduce(
    held: _OnRank0, request: MtebRequest, found: FoundModel, opened: OpenedModel, settings: dict[str, Any]
) -> str:
    """The folder of the results; fills in who the model is in mteb's files."""
    from harness.evaluation.mteb.meta import model_meta, results_folder

    dim, encoder = settings["embed_dim"], opened.encoder
    if dim is not None and dim > encoder.dim:
        raise ValueError(f"--dim: got {dim}, expected 1 to {encoder.dim}, the model's dimensions")
    held.facts = facts = _facts(held, request, found, opened, settings)
    revision = request.revision or _commit(found.name)
    held.meta = model_meta(facts, request.model_name, revision, held.card)
    return str(results_folder(request.results, held.meta))


def _facts(
    held: _OnRank0, request: MtebRequest, found: FoundModel, opened: OpenedModel, settings: dict[str, Any]
) -> ModelFacts:
    from harness.evaluation.mteb.meta import ModelFacts

    encoder, prompts, choice = opened.encoder, opened.model_prompts, opened.choice
    own = config_of_folder(found.config.name_or_path, trust_remote_code=found.config.trust_remote_code)
    changed = [choice.query, choice.document, choice.name, held.given, request.template]
    if any(part or part == "" for part in changed):
        settings = {**settings, "prompts": xxhash.xxh64_hexdigest(json.dumps(changed, sort_keys=True).encode())}
    identity = {key: value for key, value in opened.identity().items() if key in ("weights", "pooling", "tokenizer")}
    identity |= {"named": dict(prompts.named), "default": prompts.default_name, "max_length": own.max_length}
    base = None if found.run is None else published_name(found.run.config.model.name_or_path)
    return ModelFacts(
        name=_name(found),
        identity={**identity, "normalize": encoder.normalize},
        parameters=sum(weight.numel() for weight in encoder.parameters()),
        embedding_parameters=sum(w.numel() for w in encoder.backbone.get_input_embeddings().parameters()),
        embed_dim=settings["embed_dim"] or encoder.dim,
        max_tokens=found.config.max_length,
        has_prompts=not prompts.is_empty or "prompts" in settings,
        adapted_from=base if base and not is_path(base) else None,
        settings={key: value for key, value in settings.items() if value is not None},
    )


def _name(found: FoundModel) -> str:
    """The model's name in mteb's files: a hub name is kept, what lies here is `local/NAME`."""
    name = found.run.config.name if found.run is not None else published_name(found.name)
    if found.run is None and "/" in name and not is_path(name):
        return name
    return "local/" + (re.sub(r"[^\w.-]+", "-", Path(name).resolve().name).strip("-") or "model")


def _commit(name: str) -> str | None:
    """The commit of a hub model that was fetched; None for a folder."""
    from huggingface_hub import try_to_load_from_cache

    if is_path(name) or Path(name).exists() or "/" not in name:
        return None
    file = try_to_load_from_cache(name, "config.json")
    return Path(file).parent.name if isinstance(file, str) else None


@waits.may_take_long()
def _run(
    held: _OnRank0, request: MtebRequest, opened: OpenedModel, folder: Path, dim: int | None, console: EvaluationConsole
) -> Outcome:
    def work(ask: Ask) -> Outcome:
        with unchanged_process():
            from mteb.cache import ResultCache

            from harness.evaluation.mteb.meta import refuse_other_weights
            from harness.evaluation.mteb.model import RankedModel
            from harness.evaluation.mteb.run import Progress, run_tasks

            assert held.facts is not None
            assert held.meta is not None
            refuse_other_weights(folder, held.facts, "--results")
            prompts = _prompts(held, request, opened)
            for line in _prompt_lines(held, prompts):
                say(line)
            model = RankedModel(ask, prompts, held.meta)
            progress = Progress(console.start, say, warn)
            cache = ResultCache(request.results)
            return run_tasks(held.tasks, model, prompts, cache=cache, overwrite=request.overwrite, progress=progress)

    return together(work, Ranks(opened.encode, normalize=opened.encoder.normalize, dim=dim))


def _prompts(held: _OnRank0, request: MtebRequest, opened: OpenedModel) -> TaskPrompts:
    from harness.evaluation.mteb.prompts import TaskPrompts
    from harness.evaluation.mteb.run import instructions_of

    return TaskPrompts(opened.model_prompts, opened.choice, held.given, request.template, instructions_of(held.tasks))


def _prompt_lines(held: _OnRank0, prompts: TaskPrompts) -> list[str]:
    """Which prompts which tasks get, a line for each set of prompts."""
    from harness.prompts.roles import in_words

    tasks_of: dict[str, list[str]] = {}
    for task in held.tasks:
        tasks_of.setdefault(in_words(prompts.of_task(task.metadata)), []).append(task.metadata.name)
    return [f"prompts: {', '.join(names)}: {words}" for words, names in tasks_of.items()]


def _show(
    held: _OnRank0, request: MtebRequest, outcome: Outcome, folder: Path, output: Path | None, model: str
) -> None:
    from harness.evaluation.mteb.published import BENCHMARK, compared_with_conan, missing_data_sets
    from harness.evaluation.mteb.tables import as_json, averages, averages_table, compared_table, scores_table

    console, types = Console(), [str(task.metadata.type) for task in held.tasks]
    console.print(scores_table(outcome, [task.metadata.name for task in held.tasks]))
    rows = averages(outcome, types)
    if len(types) > 1:
        console.print(averages_table(rows))
    compared = compared_with_conan(outcome) if _names_cmteb(request.benchmark, BENCHMARK) else []
    if compared:
        console.print(compared_table(compared))
        if missing := missing_data_sets(outcome):
            say(f"not scored, of the 35 data sets of the published averages: {', '.join(missing)}")
    say(f"results: {folder}")
    if output is not None:
        facts = {"model": model, "datasets": json_values(outcome.results()), "mteb": as_json(outcome, rows, compared)}
        replace_file(output, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _names_cmteb(benchmark: str | None, name: str) -> bool:
    import mteb

    return benchmark is not None and mteb.get_benchmark(benchmark).name == name
