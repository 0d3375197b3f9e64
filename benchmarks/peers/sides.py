"""The two sides of `benchmarks.peers`: the same recipe trained by the harness and by sentence-transformers.

Call each training function in a new process, so that speed and memory are those of one side. Heavy imports are inside
of the functions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.settings.environment import prepare_environment

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments

    from harness.config import LoadedRecipe, RunConfig

    Encode = Callable[[list[str]], np.ndarray]  # n texts → float32 [n, D]

MINI_BATCH = 32  # texts of a mini-batch of sentence-transformers (its default)
RECIPE = Path(__file__).with_name("alpaca_in_batch.yaml")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of both sides. `evaluation`: a BEIR folder on which both models are evaluated, or None."""

    folder: Path  # temporary folder, which contains pairs.jsonl
    model: str
    batch: int
    steps: int
    precision: str
    evaluation: Path | None

    @property
    def pairs_file(self) -> Path:
        return self.folder / "pairs.jsonl"


@dataclass(frozen=True, slots=True)
class Side:
    """Results of one side. The lists have one number per step."""

    losses: list[float]
    gradient_norms: list[float]
    learning_rates: list[float]
    seconds: float  # of the training loop: reading, tokenising, computing, logging
    texts_per_second: float  # a pair counts as two texts
    peak_memory_bytes: int  # of the process, or of torch's allocator on a GPU
    threads: int
    ndcg_at_10: dict[str, float]  # keys: before, after; empty without an evaluation


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """Facts about our plan, one entry per step. `masked_pairs` and `repeated_documents` can make the losses differ."""

    rows: list[list[int]]
    masked_pairs: list[int]  # pairs (query, known positive) that theirs counts as negatives and ours masks
    repeated_documents: list[int]  # documents equal to another one of the step: theirs counts both, ours one


def train_ours(settings: Settings) -> tuple[Side, PlanFacts]:
    """Train the recipe with the harness on one rank.

    Raises:
        ValueError: data, model and settings do not fit together.
    """
    prepare_environment()
    from harness.run.build import build_run
    from harness.trainer import train_step
    from harness.types import QueryPart

    run = build_run(load(settings))
    metrics, parts = [], []
    start = time.perf_counter()
    for step in run.steps(after=0):
        metrics.append(train_step(run, step))
        parts += [part for part in step.plan.parts if isinstance(part, QueryPart)]
    side = _side(
        settings,
        seconds=time.perf_counter() - start,
        models={"after": lambda texts: run.encoders.for_evaluation()(texts)},
        losses=[row["loss"] for row in metrics],
        gradient_norms=[row["gradient_norm"] for row in metrics],
        learning_rates=[row["learning_rate"] for row in metrics],
    )
    facts = PlanFacts(
        rows=[part.row_B.tolist() for part in parts],
        masked_pairs=[len(part.excluded_pairs()[0]) for part in parts],
        repeated_documents=[settings.batch - len(part.document_N) for part in parts],
    )
    return side, facts


def train_theirs(settings: Settings, rows: Sequence[Sequence[int]]) -> Side:
    """Train with the Trainer of sentence-transformers. `rows` lists the rows of the pairs file for every step.

    Raises:
        ValueError: dropout of the model cannot be switched off.
    """
    prepare_environment()
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss
    from transformers import PrinterCallback

    recipe = load(settings).config
    with settings.pairs_file.open(encoding="utf-8") as stream:
        pairs = [json.loads(line) for line in stream]
    ordered = [pairs[row] for step in rows for row in step]
    model = _their_model(recipe)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=_their_arguments(settings, recipe),
        train_dataset=Dataset.from_dict({key: [pair[key] for pair in ordered] for key in ("query", "positive")}),
        loss=CachedMultipleNegativesRankingLoss(model, scale=1 / recipe.loss.temperature, mini_batch_size=MINI_BATCH),
    )
    trainer.remove_callback(PrinterCallback)
    seconds = trainer.train().metrics["train_runtime"]
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return _side(
        settings,
        seconds=seconds,
        models={"before": _their_model(recipe).encode, "after": model.encode},
        losses=[entry["loss"] for entry in logs],
        gradient_norms=[entry["grad_norm"] for entry in logs],
        learning_rates=[entry["learning_rate"] for entry in logs],
    )


def load(settings: Settings) -> LoadedRecipe:
    """Load the recipe and apply the settings. Both sides read their numbers from it."""
    from harness.config import load_recipe

    changes = {
        "model.name_or_path": settings.model,
        "tasks.pairs.path": str(settings.pairs_file),
        "tasks.pairs.quota": settings.batch,
        "training.steps": settings.steps,
        "training.precision": settings.precision,
        "data.cache": str(settings.folder / "cache"),
        "output": str(settings.folder / "ours"),
    }
    return load_recipe(str(RECIPE), [f"{key}={json.dumps(value)}" for key, value in changes.items()])


def _their_model(recipe: RunConfig) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from torch.nn import Dropout

    from harness.model_folder.find import resolve_model

    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = SentenceTransformer(resolve_model(recipe.model.name_or_path), config_kwargs=no_dropout)
    active_dropouts = [name for name, module in model.named_modules() if isinstance(module, Dropout) and module.p > 0]
    if active_dropouts:
        raise ValueError(
            f"--model: got dropout in {active_dropouts[0]} on their side, expected none; take a BERT-like model"
        )
    model.max_seq_length = recipe.model.max_length
    return model


def _their_arguments(settings: Settings, recipe: RunConfig) -> SentenceTransformerTrainingArguments:
    """The recipe's settings as training arguments, with every step logged; everything else is their default."""
    import torch
    from sentence_transformers import SentenceTransformerTrainingArguments
    from torch.utils.data import BatchSampler, SequentialSampler

    def in_order(dataset: Dataset, batch_size: int, drop_last: bool, **_: object) -> Any:
        return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    training = recipe.training
    return SentenceTransformerTrainingArguments(
        output_dir=str(settings.folder / "theirs"),
        per_device_train_batch_size=settings.batch,
        batch_sampler=in_order,
        max_steps=settings.steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        weight_decay=training.weight_decay,
        adam_beta1=training.adam_betas[0],
        adam_beta2=training.adam_betas[1],
        adam_epsilon=training.adam_epsilon,
        max_grad_norm=training.max_grad_norm,
        bf16=training.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _side(settings: Settings, *, seconds: float, models: dict[str, Encode], **curves: list[float]) -> Side:
    """Collect the results of a side. Memory is read before the evaluation, so that it is that of training only."""
    import torch

    from harness.engine.step_cost import peak_memory_bytes
    from harness.evaluation.runner import evaluate

    memory = peak_memory_bytes()
    scores = {}
    if settings.evaluation is not None:
        for when, encode in models.items():
            (metrics,) = evaluate(_without_role(encode), [str(settings.evaluation)]).values()
            scores[when] = metrics["ndcg_at_10"]
    return Side(
        seconds=seconds,
        texts_per_second=2 * settings.batch * settings.steps / seconds,
        peak_memory_bytes=memory,
        threads=torch.get_num_threads(),
        ndcg_at_10=scores,
        **curves,
    )


def _without_role(encode: Encode) -> Callable[[Sequence[str], str], np.ndarray]:
    return lambda texts, role: encode(list(texts))
