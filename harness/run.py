"""Floor 5: everything a run is made of, built from a checked recipe. The trainer drives it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import comm
from harness.config import LoadedRecipe, RunConfig, load_deepspeed_json
from harness.data.bank_file import BankFacts, open_bank
from harness.data.batches import token_batches
from harness.data.config import PromptsConfig, TaskConfig
from harness.data.demo_corpus import corpus_hash
from harness.data.index import TableConfig, TaskData, open_table, open_task
from harness.data.locate import cache_root, locate
from harness.data.negatives import Candidates, ListedCandidates, NegativeBank
from harness.data.plan import plan
from harness.data.schedule import deal, schedule
from harness.data.task import Task
from harness.data.tokenisation import Tokeniser
from harness.encoder.encoder import Encoder, fingerprint, load_encoder, longest_text
from harness.engine.budget import micro_batch_tokens
from harness.engine.encode import TextEncoder
from harness.engine.phases import Step
from harness.engine.zero import ZeroEngine
from harness.evaluation.runner import LoadedData, check_main_metric, load
from harness.losses.objective import Objective, TaskTerms
from harness.mining.dynamic import DynamicNegatives
from harness.report.console import ReadingConsole
from harness.types import EncodingRole, TaskKind

BANK_OFFSET = 10  # the paper's: the top of a search is too likely to hold unlabelled positives (section 3.1)


@dataclass(frozen=True, slots=True)
class Run:
    """Data, model, loss and engine of one recipe, on this rank."""

    config: RunConfig
    tokeniser: Tokeniser
    tasks: tuple[Task, ...]
    objective: Objective
    negatives: DynamicNegatives
    engine: ZeroEngine
    encoder: Encoder  # the module the engine drives
    micro_batch_tokens: int
    evaluation_data: LoadedData

    @property
    def evaluates(self) -> bool:
        return bool(self.config.evaluation.data) and self.config.evaluation.every > 0

    def is_due(self, step: int, every: int) -> bool:
        """Whether something done every so many steps, and after the last one, is done after this one. 0: never."""
        return every > 0 and (step % every == 0 or step == self.config.training.steps)

    def steps(self, after: int) -> Iterator[Step]:
        """The steps after step `after`, each planned and tokenised while the one before it is computed."""
        if after >= self.config.training.steps:
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan") as planner:
            ahead = planner.submit(self.prepare, after + 1)
            for step in range(after + 1, self.config.training.steps + 1):
                started = time.perf_counter()
                prepared = replace(ahead.result(), seconds_waiting=time.perf_counter() - started)
                if step < self.config.training.steps:
                    ahead = planner.submit(self.prepare, step + 1)
                yield prepared

    def prepare(self, step: int) -> Step:
        """Plan step `step`, deal its texts to the ranks, and tokenise this rank's share."""
        training = self.config.training
        planned = plan(self.tasks, seed=training.seed, step=step, balance=self.config.loss.balance)
        length_T = planned.texts.length_T
        ranks = comm.world_size()
        scheduled = schedule(length_T, deal(length_T, ranks), ranks, self.micro_batch_tokens)
        batches = token_batches(planned, scheduled.micro_batches[comm.rank()], self.tasks, self.tokeniser)
        return Step(planned, scheduled, batches, training.seed, keep_graph=training.keep_graph)

    def continued(self, state: dict[str, Any]) -> Run:
        """The same run with the micro-batch budget its checkpoint was trained with, if the recipe says `auto`.

        Dropout masks depend on the cut into micro-batches: another budget would be another run.
        """
        if self.config.training.micro_batch_tokens != "auto" or "micro_batch_tokens" not in state:
            return self
        return replace(self, micro_batch_tokens=state["micro_batch_tokens"])

    def encode(self) -> TextEncoder:
        """An encoder of texts with the weights as they are now, dropout off."""
        self.engine.train_mode(False)
        return TextEncoder(
            self.engine.forward,
            self.tokeniser,
            max_lengths=max_lengths(self.config),
            prompts=inference_prompts(self.config),
            micro_batch_tokens=self.micro_batch_tokens,
        )

    def sample_texts(self) -> list[str]:
        """A few of the run's own texts, to compare models by."""
        first = self.tasks[0].data
        return [text for text, _ in first.read_texts(np.arange(min(8, first.num_texts)))]

    def fingerprint(self) -> dict[str, Any]:
        """What the plan is a function of, beside the recipe: a checkpoint is continued on the same only."""
        hashes = {task.config.name: task.data.content_hash for task in self.tasks}
        return {"data": hashes, "tokenizer": self.tokeniser.fingerprint}

    def data_facts(self) -> list[dict[str, Any]]:
        """What run.json and the model card say of each task's data."""
        return [
            {
                "task": task.config.name,
                "kind": task.config.kind,
                "path": task.config.path,
                "rows": task.data.num_rows,
                "texts": task.data.num_texts,
                "hash": task.data.content_hash,
                "corpus_hash": corpus_hash(task.data.path),
                "bad_rows": task.data.bad_rows,
            }
            for task in self.tasks
        ]


def build_run(loaded: LoadedRecipe) -> Run:
    """Open and validate the data, then load the model and hand it to ZeRO.

    Raises:
        ValueError: data, model or settings that do not fit, in one line.
    """
    config = loaded.config
    for task in config.tasks:  # a missing file is said before anything is loaded
        _locate(loaded, task.path)
    evaluation_data = load([_locate(loaded, path, allow_hub=False) for path in config.evaluation.data])
    check_main_metric(evaluation_data, config.evaluation.main_metric, config.model.matryoshka_dims or ())
    tokeniser = Tokeniser(config.model.name_or_path, config.model.trust_remote_code)
    _check_lengths(config)
    tasks = open_tasks(loaded, tokeniser)
    encoder = load_encoder(config.model, config.training.dropout, config.training.seed)
    _check_ranking(loaded, encoder, tasks)
    terms = [
        TaskTerms(t.name, t.temperature or config.loss.temperature, t.weight, t.negatives.margin)
        if t.kind != "sts"
        else TaskTerms(t.name, t.temperature or config.loss.cosent_temperature, t.weight, None)
        for t in config.tasks
    ]
    run = Run(
        config=config,
        tokeniser=tokeniser,
        tasks=tasks,
        negatives=DynamicNegatives(config.mining, tasks),
        objective=Objective(terms, config.loss, config.model.matryoshka_dims, config.model.matryoshka_weights),
        encoder=encoder,
        engine=ZeroEngine(encoder, config.training, load_deepspeed_json(config.deepspeed, loaded.recipe_folder)),
        micro_batch_tokens=micro_batch_tokens(config.training.micro_batch_tokens, encoder, config.training.precision),
        evaluation_data=evaluation_data,
    )
    different = [
        rank for rank, other in enumerate(comm.gather_objects(run.fingerprint())) if other != run.fingerprint()
    ]
    if different:
        raise ValueError(
            f"data: ranks {different} read other data or another tokenizer than rank {comm.rank()}, expected the same "
            "files on every host"
        )
    return run


def _check_ranking(loaded: LoadedRecipe, encoder: Encoder, tasks: Sequence[Task]) -> None:
    """A ranking's scores are S0 only if this run starts with the weights, prompts and lengths that made them."""
    if loaded.config.mining.rule == "none" or loaded.config.mining.start != "ranking":
        return
    weights = fingerprint(encoder)
    for task in tasks:
        if task.bank is None or not task.bank.num_slots:
            continue
        bank = task.config.negatives.bank
        if bank is None:
            raise ValueError(
                f"mining.start: got ranking, but task {task.config.name} has no bank that says what ranked it; "
                "make one with harness mine, or set mining.start: first_use"
            )
        lengths = [task.query_max_length, task.document_max_length]
        expected = {"weights": weights, "prompts": task.config.prompts.model_dump(), "max_lengths": lengths}
        ranked_by = BankFacts.read(Path(_locate(loaded, bank, allow_hub=False))).ranked_by
        different = [key for key, value in expected.items() if ranked_by.get(key) != value]
        if different:
            raise ValueError(
                f"mining.start: got ranking, but {bank} was ranked with other {' and '.join(different)} than the run "
                "starts with; mine it again with the run's model, or set mining.start: first_use"
            )


def _check_lengths(config: RunConfig) -> None:
    longest = longest_text(config.model.name_or_path, config.model.trust_remote_code)
    for task in config.tasks:
        wanted = max(task.query_max_length or 0, task.document_max_length or 0)
        if longest is not None and wanted > longest:
            raise ValueError(
                f"tasks.{task.name}: got a text length of {wanted} tokens, but {config.model.name_or_path} takes at "
                f"most {longest}; lower query_max_length or document_max_length"
            )


def open_tasks(loaded: LoadedRecipe, tokeniser: Tokeniser) -> tuple[Task, ...]:
    """Every task's validated data and its negative bank. The first rank on a machine reads; the others wait."""
    tasks = []
    for task in loaded.config.tasks:
        query_length = task.query_max_length or max_lengths(loaded.config)["query"]
        document_length = task.document_max_length or max_lengths(loaded.config)["document"]
        lengths = (query_length, document_length)
        path, shown = _locate(loaded, task.path), ReadingConsole(f"task {task.name}")
        data = open_task(task, path, loaded.config.data, tokeniser, *lengths, progress=shown)
        bank = None
        if task.kind == "retrieval":
            candidates = _candidates(loaded, task, data, tokeniser, lengths)
            bank = NegativeBank(data.num_rows, candidates, task.negatives.per_query)
        tasks.append(Task(task, data, bank, query_length, document_length))
    return tuple(tasks)


def _candidates(
    loaded: LoadedRecipe, task: TaskConfig, data: TaskData, tokeniser: Tokeniser, lengths: tuple[int, int]
) -> Candidates:
    """The task's ranked negatives: its own lists, or a bank and the corpus that it was searched in."""
    settings = task.negatives
    if settings.bank is None:
        return ListedCandidates(data, settings.offset or 0)
    folder = Path(_locate(loaded, settings.bank, allow_hub=False))
    path = settings.corpus or BankFacts.read(folder).corpus
    corpus = None
    if path is not None:
        table = TableConfig(f"{task.name} corpus", "corpus", task.split, task.prompts, lengths)
        shown = ReadingConsole(f"task {task.name}, corpus")
        corpus = open_table(table, _locate(loaded, path), loaded.config.data, tokeniser, progress=shown)
    return open_bank(folder, data, corpus, BANK_OFFSET if settings.offset is None else settings.offset)


def max_lengths(config: RunConfig) -> dict[EncodingRole, int]:
    """Longest text of each role, tokens."""
    model = config.model
    query = model.query_max_length or model.max_length
    return {"query": query, "document": model.document_max_length or model.max_length, "sentence": query}


def inference_prompts(config: RunConfig) -> dict[EncodingRole, str]:
    """What evaluation and export put before a text: as the recipe says, else what all tasks of the kind agree on."""
    retrieval = _agreed(config, "retrieval")
    return {
        "query": config.evaluation.query_prompt or retrieval.query,
        "document": config.evaluation.document_prompt or retrieval.document,
        "sentence": _agreed(config, "sts", "classification").query,
    }


def _agreed(config: RunConfig, *kinds: TaskKind) -> PromptsConfig:
    prompts = {task.prompts for task in config.tasks if task.kind in kinds}
    return prompts.pop() if len(prompts) == 1 else PromptsConfig()


def _locate(loaded: LoadedRecipe, path: str, *, allow_hub: bool = True) -> str:
    return locate(
        path,
        allow_hub=allow_hub,
        recipe_folder=loaded.recipe_folder,
        data_root=loaded.data_root,
        cache_root=cache_root(loaded.config.data.cache),
    )
