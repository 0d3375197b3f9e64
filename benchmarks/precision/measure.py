"""What `benchmarks.precision` measures of one precision. Call each function in a new process.

Heavy imports are inside of the functions.
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.sides import RECIPE
from harness.settings.environment import prepare_environment

if TYPE_CHECKING:
    from torch import Tensor

    from harness.config import LoadedRecipe
    from harness.run.run import Run

HALF = ("bf16", "fp16")  # precisions that are autocast over fp32 weights


@dataclass(frozen=True, slots=True)
class Settings:
    """folder: holds pairs.jsonl, for caches and outputs. stage: of ZeRO."""

    folder: Path
    model: str
    batch: int
    steps: int
    stage: int
    precision: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A short training. losses: one per step. The first step is not timed: it warms caches up."""

    losses: list[float]
    texts_per_second: float  # a pair counts as two texts
    cpu_seconds_per_step: float
    peak_memory_bytes: int


def train(settings: Settings) -> Curve:
    """Train `settings.steps` steps with the harness on one rank."""
    prepare_environment()
    from harness.engine.step_cost import peak_memory_bytes
    from harness.run.build import build_run
    from harness.trainer import train_step

    run, losses = build_run(load(settings)), []
    wall, cpu = time.perf_counter(), time.process_time()
    for step in run.steps(after=0):
        losses.append(train_step(run, step)["loss"])
        if step.number == 1:
            wall, cpu = time.perf_counter(), time.process_time()
    timed = max(1, settings.steps - 1)
    return Curve(
        losses,
        texts_per_second=2 * settings.batch * timed / (time.perf_counter() - wall),
        cpu_seconds_per_step=(time.process_time() - cpu) / timed,
        peak_memory_bytes=peak_memory_bytes(),
    )


def gradient_errors(settings: Settings) -> tuple[float, float]:
    """Errors of the whole gradient vector of the first step: (the harness's, that of plain autocast in one graph).

    Both relative, compared with plain autograd in fp32 on the same texts.
    """
    prepare_environment()
    from harness.engine.phases import embed, replay, score
    from harness.run.build import build_run

    run = build_run(load(settings))
    step = next(iter(run.steps(after=0)))
    embeddings = embed(run.engine, step)
    replay(run.engine, step, embeddings, score(run.engine, run.objective, step, embeddings).gradients)
    ours = run.engine.full_gradients()
    truth = _plain_gradients(run, step, "fp32")
    return _relative_error(ours, truth), _relative_error(_plain_gradients(run, step, settings.precision), truth)


def _plain_gradients(run: Run, step, precision: str) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """Plain autograd over one graph, with torch's autocast around the encoder; fp16 with a loss scale."""
    import torch

    from harness.encoder.load import load_encoder
    from harness.engine.precision import AUTOCAST

    encoder = load_encoder(run.config.model, run.config.training.dropout).to(run.engine.device).train()
    rows = [row for rows in step.schedule.micro_batches[0] for row in rows]
    dtype = AUTOCAST.get(precision)
    device = run.engine.device.type
    with nullcontext() if dtype is None else torch.autocast(device, dtype=dtype):
        embeddings = [
            encoder(*batch.on(run.engine.device))[:count]
            for batch, count in zip(step.batches, step.texts_per_batch, strict=True)
        ]
    place_T = torch.tensor(rows, device=run.engine.device).argsort()
    scale = 2.0**10 if precision == "fp16" else 1.0
    (run.objective(step.plan, torch.cat(embeddings).float()[place_T]).loss * scale).backward()
    return {name: p.grad.float().cpu() / scale for name, p in encoder.named_parameters() if p.grad is not None}


def _relative_error(gradients: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    import torch

    difference = torch.cat([(gradients[name] - truth[name]).flatten() for name in truth])
    return float(difference.norm() / torch.cat([value.flatten() for value in truth.values()]).norm())


def load(settings: Settings) -> LoadedRecipe:
    """The recipe of `benchmarks.peers` with these settings."""
    from harness.config import load_recipe

    changes = {
        "model.name_or_path": settings.model,
        "tasks.pairs.path": str(settings.folder / "pairs.jsonl"),
        "tasks.pairs.quota": settings.batch,
        "training.steps": settings.steps,
        "training.precision": settings.precision,
        "deepspeed": f"zero{settings.stage}",
        "data.cache": str(settings.folder / "cache"),
        "output": str(settings.folder / settings.precision),
    }
    return load_recipe(str(RECIPE), [f"{key}={json.dumps(value)}" for key, value in changes.items()])
