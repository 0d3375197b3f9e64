"""From the recipe's `tasks` to opened data and banks of negatives; checks that model, data and banks fit together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xxhash

from harness import rank0
from harness.config import LoadedRecipe, RunConfig, inference_prompts, max_lengths
from harness.data.bank.file import FACTS, BankFacts, check_bank, open_bank
from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import Candidates, ListedCandidates, NegativeBank
from harness.data.config import TaskConfig
from harness.data.plan.nothing_to_learn import nothing_to_learn
from harness.data.plan.quotas import with_quotas
from harness.data.plan.task import Task
from harness.data.table.findings import remarks
from harness.data.table.index import TableConfig, TaskData, check_scores, open_table, open_task
from harness.data.table.tokenisation import Tokeniser
from harness.data.teacher.vectors import TeacherVectors, check_dimensions, open_teacher
from harness.encoder.config import ModelConfig
from harness.encoder.end_of_text import end_of_texts
from harness.evaluation.mteb.during_training import MtebTasks
from harness.evaluation.results import check_main_metric
from harness.evaluation.runner import LoadedData, load
from harness.mining.ineffective_settings import (
    empty_window_message,
    ineffective_rule_message,
    late_floor_message,
    nothing_compared_message,
)
from harness.model_folder.configuration import steady_limit
from harness.model_folder.preflight import Preflight, check_attention
from harness.prediction.machine.matrix_rate import slow_precision
from harness.report.console import ReadingConsole
from harness.report.messages import say, show_counts, warn
from harness.report.trackers.table import check_trackers
from harness.run.alarms.settings import useless_settings
from harness.run.objective import check_divisible
from harness.run.places import check_room, locate_for, locate_source
from harness.run.startup.mining import check_compared, check_drawn, check_ranked, check_reranking, offset_of


def check_recipe(loaded: LoadedRecipe, num_ranks: int) -> LoadedData:
    """Check all that can be checked without reading training data or weights. Returns the evaluation data.

    Training and `harness plan` call it first, on every rank.

    Raises:
        ValueError: files, models, settings or evaluation data do not fit together; one line.
    """
    config = loaded.config
    check_trackers(config.report.trackers)
    for task in config.tasks:
        for file in task.teacher_vectors.files.values() if task.teacher_vectors else ():
            locate_for(loaded, file, allow_hub=False)
        locate_source(loaded, task.path)  # reports a missing file before anything is loaded
    rank0.by_main(lambda: check_models(config))
    check_settings(config)
    check_divisible(config, num_ranks)
    evaluation = config.evaluation
    paths = [locate_for(loaded, entry.path, allow_hub=False) for entry in evaluation.data]
    data = load(paths, ignore_identical_ids=evaluation.ignore_identical_ids, cache=config.data.cache)
    show_counts(data.count_lines())
    mteb = open_mteb(loaded)
    metrics = None if mteb is None else mteb.metrics
    check_main_metric(data, evaluation.main_metric, config.model.matryoshka_dims or (), metrics)
    return data.with_prompts(inference_prompts(config), [entry.choice for entry in evaluation.data])


def open_mteb(loaded: LoadedRecipe, *, with_data: bool = False) -> MtebTasks | None:
    """The tasks of `evaluation.mteb`, found by their names; None if the recipe has none. Every rank must call it.

    with_data: load their data, too, which may fetch it.

    Raises:
        ValueError: mteb is not installed, or has no such task or language, or the data cannot be had.
    """
    settings = loaded.config.evaluation.mteb
    if settings is None:
        return None
    data = None if settings.data is None else locate_for(loaded, settings.data, allow_hub=False)
    tasks = MtebTasks.opened(settings, data, inference_prompts(loaded.config))
    if with_data:
        tasks.load()
    return tasks


def check_models(config: RunConfig) -> None:
    """Check the folders of the model and of the guide, if there is one. No collectives."""
    model, guide = config.model, config.guide
    request = Preflight(
        model.name_or_path,
        trust_remote_code=model.trust_remote_code,
        pooling=model.pooling,
        longest_text=model.longest_text,
        attention_mask=model.attention_mask,
        append_eos=model.append_eos,
        largest_dim=model.matryoshka_dims[-1] if model.matryoshka_dims and model.projection_dim is None else None,
        adds_adapter=model.lora is not None,
    )
    request.check()
    if guide is not None:
        Preflight(guide.name_or_path, "guide", guide.trust_remote_code, longest_text=guide.max_length).check()


def check_machine(loaded: LoadedRecipe) -> None:
    """Check that this machine can train the recipe and hold what the run writes. Every rank must call it.

    Raises:
        ValueError: attention that this machine does not have, or an output that cannot be written.
    """
    config = loaded.config
    if slow := slow_precision(config.training.precision):
        warn(f"training.precision: {slow}; set training.precision: fp32 unless this only tries a recipe out")
    check_attention(config.model.attention)
    rank0.by_main(lambda: check_room(config))


def load_tokeniser(model: ModelConfig) -> Tokeniser:
    """The tokeniser that a run's texts are encoded with; the exported model has it, too."""
    return Tokeniser(model.name_or_path, model.trust_remote_code, end_of_texts(model))


def open_tasks(loaded: LoadedRecipe, tokeniser: Tokeniser) -> tuple[Task, ...]:
    """Every task with its validated data and its bank. On each machine one process reads the files; the others wait."""
    tasks = []
    for task in loaded.config.tasks:
        query_length = task.query_max_length or max_lengths(loaded.config)["query"]
        document_length = task.document_max_length or max_lengths(loaded.config)["document"]
        lengths = (query_length, document_length)
        path, progress = locate_source(loaded, task.path), ReadingConsole(f"task {task.name}")
        corpus = locate_for(loaded, task.corpus) if task.corpus else None
        data = open_task(task, path, loaded.config.data, tokeniser, *lengths, progress=progress, corpus=corpus)
        for line in remarks(task, data):
            say(line)
        check_scores(task, data)
        bank = None
        if task.kind == "retrieval":
            candidates = _candidates(loaded, task, data, tokeniser, lengths)
            bank = BankHistory(NegativeBank(data.num_rows, candidates, task.negatives.per_query))
        tasks.append(Task(task, data, bank, query_length, document_length, _teacher(loaded, task, data)))
    return with_quotas(tasks, loaded.config.data)


def _teacher(loaded: LoadedRecipe, task: TaskConfig, data: TaskData) -> TeacherVectors | None:
    """The teacher's vectors of the task's texts; None if no loss needs them."""
    if task.teacher_vectors is None:
        return None
    files = task.teacher_vectors.files
    return open_teacher(task, data, {side: locate_for(loaded, file, allow_hub=False) for side, file in files.items()})


def _candidates(
    loaded: LoadedRecipe, task: TaskConfig, data: TaskData, tokeniser: Tokeniser, lengths: tuple[int, int]
) -> Candidates:
    """The task's ranked candidates: the lists in its data, or a bank with the corpus that it was mined from."""
    settings = task.negatives
    if settings.bank is None:
        return ListedCandidates(data, settings.offset or 0)
    folder = Path(locate_for(loaded, settings.bank, allow_hub=False))
    path = settings.corpus or BankFacts.read(folder).corpus
    corpus = None
    if path is not None:
        table = TableConfig(f"{task.name} corpus", "corpus", task.split, task.prompts.to_prompts(), lengths)
        progress = ReadingConsole(f"task {task.name}, corpus")
        corpus = open_table(table, locate_for(loaded, path), loaded.config.data, tokeniser, progress=progress)
    check_bank(folder)
    return open_bank(folder, data, corpus, offset_of(task))


def bank_hashes(loaded: LoadedRecipe) -> dict[str, str]:
    """Task name → hash of its bank.json (data, model, settings), for each task with a bank."""
    folders = {task.name: task.negatives.bank for task in loaded.config.tasks if task.negatives.bank}
    files = {name: Path(locate_for(loaded, folder, allow_hub=False)) / FACTS for name, folder in folders.items()}
    return {name: xxhash.xxh3_128_hexdigest(file.read_bytes()) for name, file in files.items()}


def check_settings(config: RunConfig) -> None:
    """Check what needs no data: text lengths, a re-ranking's candidates, what a rule compares, its scores, its draws.

    Raises:
        ValueError: a setting does not fit another setting, or the model.
    """
    _check_lengths(config)
    check_reranking(config)
    check_compared(config)
    check_drawn(config)
    check_ranked(config)


def check_teachers(tasks: Sequence[Task], dim: int) -> None:
    """Check that the teachers' vectors fit a model whose embeddings have `dim` dimensions.

    Raises:
        ValueError: those of a task do not.
    """
    for task in tasks:
        check_dimensions(task.config, task.teacher, dim)


def _check_lengths(config: RunConfig) -> None:
    """Check that no task allows longer texts than the model.

    Raises:
        ValueError: a task allows longer texts.
    """
    longest = steady_limit(config.model.name_or_path, config.model.trust_remote_code)
    for task in config.tasks:
        task_length = max(task.query_max_length or 0, task.document_max_length or 0)
        if longest is not None and task_length > longest:
            raise ValueError(
                f"tasks.{task.name}: got a text length of {task_length} tokens, but {config.model.name_or_path} takes "
                f"at most {longest}; lower query_max_length or document_max_length"
            )


def settings_without_effect(config: RunConfig, tasks: Sequence[Task]) -> list[str]:
    """What teaches nothing or changes nothing with this recipe and this data: one line each, with the knob to turn."""
    training, balance = config.training, config.loss.balance
    lines = useless_settings(config)
    lines += nothing_to_learn(tasks, seed=training.seed, balance=balance, num_steps=training.num_steps)
    ineffective_rule = ineffective_rule_message(config.mining, tasks, training.num_steps, balance)
    late_floor = late_floor_message(config.mining, training.num_steps)
    not_compared = nothing_compared_message(config.mining, tasks, balance)
    of_mining = (empty_window_message(config.mining, tasks), ineffective_rule, late_floor, not_compared)
    lines += [message for message in of_mining if message]
    pair_tasks = [task.config.name for task in tasks if task.config.kind == "sts"]
    if pair_tasks and config.loss.beta == 0:
        lines.append(f"loss.beta is 0, so {', '.join(pair_tasks)} teaches nothing; raise it, or remove the task")
    if training.warmup_ratio == 1:
        lines.append("training.warmup_ratio is 1: the learning rate still rises at the last step; lower it")
    for task in tasks:
        negatives = task.config.negatives
        usual = {"bank": None, "offset": None, "draw": "ranked"}
        unused = [key for key, value in usual.items() if getattr(negatives, key) != value]
        if unused and not negatives.per_query:
            lines.append(
                f"task {task.config.name}: negatives.{' and '.join(unused)} changes nothing with negatives.per_query "
                "0; raise per_query"
            )
    return lines
