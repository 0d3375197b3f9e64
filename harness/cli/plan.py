"""`harness plan`: what was read from each file, what one step of a recipe holds, which rank would encode what, and what
a step will need: memory, traffic, seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import DataRoot, Overrides, Recipe, Verbose

MOST_RANKS = 16_384

if TYPE_CHECKING:
    from rich.table import Table

    from harness.config import LoadedRecipe, RunConfig
    from harness.data.plan.task import Task
    from harness.prediction.of_recipe import Predictor
    from harness.types import NegativesScope, StepPlan


def plan(
    recipe: Recipe,
    step: Annotated[int, typer.Option(min=1, help="The step to show; steps count from 1.")] = 1,
    ranks: Annotated[int, typer.Option(min=1, metavar="W", help="Deal the texts to this many ranks.")] = 1,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Predict for this GPU, e.g. H100 (default: this machine).")
    ] = None,
    utilisation: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="The share of the device's matrix rate that a step reaches."),
    ] = None,
    network: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="GB/S", help="What a rank sends to other hosts in a second."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the prediction here, too.")
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the growth to 1,024 ranks and 1,000,000 texts a step here."),
    ] = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    verbose: Verbose = False,
) -> None:
    """Show what was read from each file, what one step holds, which rank would encode what, and what a step will need.
    Trains nothing, and loads no weights.

    - `harness plan demo --step 3 --ranks 8`

    - `harness plan my_recipe.yaml --ranks 64 --gpu H100 --curve growth.png`
    """
    with mistakes_in_one_line(verbose):
        from harness.config import load_recipe
        from harness.engine.config import MOST_STEPS
        from harness.files import check_output
        from harness.ownership.files import is_json_with, refuse_foreign_file
        from harness.prediction.machine.devices import named_device

        for option, value, most in (("--ranks", ranks, MOST_RANKS), ("--step", step, MOST_STEPS)):
            if value > most:
                raise ValueError(f"{option}: got {value:,}, expected at most {most:,}")
        if curve is not None and curve.suffix != ".png":
            raise ValueError(f"--curve: got {curve}, expected a file name that ends with .png")
        if json_file is not None:
            refuse_foreign_file(json_file, "--json", "a prediction", is_json_with("parameters", "memory_bytes"))
        if curve is not None:
            refuse_foreign_file(curve, "--curve", "a PNG picture", lambda old: old.startswith(b"\x89PNG"))
        if gpu is not None:
            named_device(gpu)  # an unknown name is told before data is read
        for option, file in (("--json", json_file), ("--curve", curve)):
            if file is not None:
                check_output(file, option, is_file=True)
        loaded = load_recipe(recipe, list(overrides or ()), data_root)
        wishes = {"gpu": gpu, "utilisation": utilisation, "network": None if network is None else network * 1e9}
        show_plan(loaded, step, ranks, wishes, json_file, curve)


def show_plan(
    loaded: LoadedRecipe,
    step: int,
    ranks: int,
    wishes: Mapping[str, Any] = MappingProxyType({}),
    json_file: Path | None = None,
    curve: Path | None = None,
) -> None:
    """Print what step `step` holds, how its texts would be dealt to `ranks` ranks, and what that will need.

    Needs only data, tokenizer and the model's configuration. wishes: the fields of `Wishes`.
    """
    from harness.config import with_folder_prompts
    from harness.data.plan.plan import plan
    from harness.engine.zero import check_deepspeed_json
    from harness.mining.judging.words import mining_lines
    from harness.prediction.of_recipe import Predictor, Wishes
    from harness.report.messages import say
    from harness.run.objective import check_divisible
    from harness.run.start import show_prompts
    from harness.run.tasks import check_recipe, check_teachers
    from harness.settings.deepspeed_json import load_deepspeed_json

    config = with_folder_prompts(loaded.config)
    show_prompts(loaded.config, config)
    loaded = replace(loaded, config=config)
    zero = check_deepspeed_json(load_deepspeed_json(config.deepspeed, loaded.recipe_folder), config.deepspeed)
    check_recipe(loaded, ranks)
    config, tasks = _open(loaded)
    step_plan = plan(tasks, seed=config.training.seed, step=step, balance=config.loss.balance)
    predictor = Predictor(config.model, config.training, check_divisible(config, ranks), zero, ranks, Wishes(**wishes))
    check_teachers(tasks, predictor.model.encoder.dim)
    _show_step(tasks, step_plan, _ranks_table(step_plan, ranks, predictor.micro_batch_tokens))
    for line in mining_lines(config.mining, step_plan):
        say(line)
    _show_prediction(predictor, step_plan, json_file, curve, config.name)


def _open(loaded: LoadedRecipe) -> tuple[RunConfig, tuple[Task, ...]]:
    """The tasks with their negatives, and the recipe with the number of steps that their data makes."""
    from harness.report.messages import warn
    from harness.run.startup.length import with_known_steps
    from harness.run.startup.mining import begin_unranked
    from harness.run.tasks import load_tokeniser, open_tasks, settings_without_effect

    tasks = open_tasks(loaded, load_tokeniser(loaded.config.model))
    config = with_known_steps(loaded.config, tasks)
    for message in settings_without_effect(config, tasks):
        warn(message)
    begin_unranked(config, tasks)
    return config, tasks


def _show_step(tasks: Sequence[Task], step_plan: StepPlan, ranks_table: Table) -> None:
    """Print what was read, what the step holds of each task, and how its texts are dealt."""
    from rich.console import Console

    tasks_table = _tasks_table(step_plan, {task.config.name: task.config.scope for task in tasks})
    for table in (_files_table(tasks), tasks_table, ranks_table):
        Console().print(table)


def _show_prediction(
    predictor: Predictor, step_plan: StepPlan, json_file: Path | None, curve: Path | None, name: str
) -> None:
    """Print what the step will need and what does not fit; write the files that were asked for."""
    from rich.console import Console

    from harness.cli.parts.predicted import cost_lines, memory_table, write_curve, write_json
    from harness.prediction.advice import advice
    from harness.prediction.counted.micro_batch import CannotCountError
    from harness.report.messages import say, warn

    try:
        prediction = predictor.predict(step_plan)
    except CannotCountError as error:
        return warn(f"what a step will need is not known: {error}")
    Console().print(memory_table(prediction))
    for line in cost_lines(prediction):
        say(line)
    for line in advice(prediction, predictor.micro_batch_tokens):
        warn(line)
    if json_file is not None:
        write_json(prediction, json_file)
    if curve is not None:
        from harness.prediction.curve import scaling

        write_curve(scaling(predictor, step_plan), name, curve)
        say(f"growth: {curve}")


def _files_table(tasks: Sequence[Task]) -> Table:
    """A row per file: what was read, what was not used, and what was left out."""
    from rich.table import Table
    from rich.text import Text

    from harness.data.table.findings import columns, negatives_per_row, rows_left_out

    table = Table(title="what was read")
    names = ("task", "file", "rows", "columns used", "columns not used", "negatives per row", "left out")
    for column in names:
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for task in tasks:
        ranges = negatives_per_row(task.data) if task.config.kind == "retrieval" else [None] * len(task.data.files)
        for facts, spread in zip(task.data.files, ranges, strict=True):
            shown = "" if spread is None else _range(*spread)
            used, unused = columns(list(facts.used)), columns(list(facts.unused))
            cells = (Path(facts.path).name, f"{facts.rows:,}", used, unused, shown, rows_left_out(facts))
            table.add_row(task.config.name, *map(Text, cells))
    return table


def _range(lowest: int, median: float, highest: int) -> str:
    return str(lowest) if lowest == highest else f"{lowest} to {highest}, median {median:g}"


def _tasks_table(step_plan: StepPlan, scope_of_task: Mapping[str, NegativesScope]) -> Table:
    """A row per task: how many examples, documents and negatives it has in the step."""
    from rich.table import Table

    from harness.types import QueryPart

    kinds = Counter(type(part).__name__ for part in step_plan.parts)
    tokens = int(step_plan.texts.length_T.sum())
    title = f"step {step_plan.step}: {len(step_plan.texts)} unique texts, {tokens} tokens"
    table = Table(title=f"{title}, tasks: {kinds['QueryPart']} of queries, {kinds['PairPart']} of pairs")
    for column in ("task", "examples", "documents", "own negatives", "masked pairs", "negatives scope"):
        table.add_column(column, justify="left" if column in ("task", "negatives scope") else "right")
    for part in step_plan.parts:
        if isinstance(part, QueryPart):
            own = int((part.negative_BM >= 0).sum())
            masked = len(part.excluded_pairs()[0])
            counts = (len(part.query_B), len(part.document_N), own, masked)
            table.add_row(part.task, *map(str, counts), scope_of_task[part.task])
        else:
            table.add_row(part.task, str(len(part.score_S)), "", "", "", "")
    return table


def _ranks_table(step_plan: StepPlan, ranks: int, tokens: int) -> Table:
    """A row per rank: how many texts, tokens and micro-batches (of at most `tokens` padded tokens) it would encode."""
    from rich.table import Table

    from harness.data.batch.deal import deal
    from harness.data.batch.schedule import padded_per_rank

    length_T = step_plan.texts.length_T
    schedule = deal(length_T, ranks, tokens)
    padded_W = padded_per_rank(schedule, length_T)
    table = Table(title=f"dealt to {ranks} rank{'s' if ranks > 1 else ''}, micro-batches of at most {tokens} tokens")
    for column in ("rank", "texts", "tokens", "padded tokens", "micro-batches"):
        table.add_column(column, justify="right")
    for rank, batches in enumerate(schedule.micro_batches):
        lengths = [length_T[rows] for rows in batches if len(rows)]
        counts = (sum(map(len, lengths)), sum(int(length.sum()) for length in lengths), padded_W[rank], len(lengths))
        table.add_row(str(rank), *map(str, counts))
    return table
