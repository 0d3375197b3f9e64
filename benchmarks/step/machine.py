"""What the machine can do at most, and how much of it a step needs: rate of matrix products, operations, padding."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSES = 3  # forward, and twice as much backward; a second forward in the replay phase is not useful work


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one step, by the plan of this build."""

    parameters: int  # without embedding tables, which are looked up and not multiplied
    tokens: float  # of a step, without padding
    padding: float  # share of the encoded tokens that is padding

    @property
    def operations(self) -> float:
        """Useful floating-point operations of a step: three passes of 2 · parameters · tokens, without attention."""
        return PASSES * 2.0 * self.parameters * self.tokens


def matrix_rate(precision: str, threads: int, seconds: float = 3.0) -> float:
    """Operations per second of large matrix products, the best of many. Call it in a new process."""
    import torch

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "bf16_weights": torch.bfloat16, "fp16": torch.float16}
    size = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype[precision]) for _ in range(2))
    best, ended = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < ended:
        started = time.perf_counter()
        product = left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    del product
    return 2.0 * size**3 / best


def work_of(recipe: Path, settings: tuple[str, ...], steps: int, ranks: int) -> Work:
    """Count the work of the recipe's first steps from its plan. Loads no weights."""
    import numpy as np

    from harness.config import load_recipe, with_folder_prompts
    from harness.data.batch.deal import deal
    from harness.data.batch.schedule import padded_per_rank
    from harness.data.plan.plan import plan
    from harness.data.table.tokenisation import Tokeniser
    from harness.engine.budget import cpu_tokens
    from harness.run.tasks import open_tasks

    loaded = load_recipe(str(recipe), list(settings))
    config = with_folder_prompts(loaded.config)
    tasks = open_tasks(loaded, Tokeniser(config.model.name_or_path, config.model.trust_remote_code))
    budget = config.training.micro_batch_tokens
    tokens, padded = 0, 0
    for step in range(1, steps + 1):
        step_plan = plan(tasks, seed=config.training.seed, step=step, balance=config.loss.balance)
        schedule = deal(
            step_plan.texts.length_T,
            ranks,
            cpu_tokens(config.training.activation_memory) if budget == "auto" else int(budget),
        )
        tokens += int(step_plan.texts.length_T.sum())
        padded += int(np.sum(padded_per_rank(schedule, step_plan.texts.length_T)))
    return Work(_parameters_without_embeddings(config.model.name_or_path), tokens / steps, 1 - tokens / padded)


def _parameters_without_embeddings(name: str) -> int:
    import torch
    from transformers import AutoConfig, AutoModel

    from harness.model_folder.find import resolve_model

    with torch.device("meta"):
        model: Any = AutoModel.from_config(AutoConfig.from_pretrained(resolve_model(name)))
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    pooler = {id(p) for key, p in model.named_parameters() if "pooler" in key}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables | pooler)
