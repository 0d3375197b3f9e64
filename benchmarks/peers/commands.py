"""Trainers of other projects that run as a command in an environment of their own, because their pins contradict ours.

A trainer gets the pairs file in its own form, a copy of the model without dropout, and the recipe's settings. It draws
its own order of the rows, so only speed and memory are compared, not the losses step by step.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

from benchmarks.peers.sides import Settings, load

_RUNTIME = re.compile(r"'train_runtime': '?([0-9.]+)")
_LOSS = re.compile(r"'loss': '?([0-9.]+)")


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Result of a trainer's command. `problem`: why there are no figures; None if there are."""

    texts_per_second: float | None = None
    peak_memory_bytes: int | None = None
    losses: tuple[float, ...] = ()
    problem: str | None = None


def train_with_command(name: str, python: Path, settings: Settings, threads: int) -> CommandResult:
    """Train with the trainer `name` of `COMMANDS`, installed for the interpreter `python`."""
    folder = settings.folder / name
    folder.mkdir()
    model = _model_without_dropout(settings, folder)
    arguments = COMMANDS[name](settings, folder, model)
    variables = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    # Otherwise the interpreter would import this project's packages, and allocate memory as this project's ranks do.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MALLOC_"))}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(python), *map(str, arguments)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**inherited, **variables},
            cwd=folder,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.kill()
            raise
    return _read_log((folder / "log").read_text(errors="replace"), status, usage.ru_maxrss * 1024, settings)


def _read_log(text: str, status: int, peak_memory_bytes: int, settings: Settings) -> CommandResult:
    """Read the seconds and losses that the Trainer of transformers prints."""
    runtime = _RUNTIME.search(text)
    if status or runtime is None:
        lines = [line for line in text.strip().splitlines() if line.strip()]
        return CommandResult(problem=lines[-1] if lines else f"exit status {status} without a message")
    return CommandResult(
        texts_per_second=2 * settings.batch * settings.steps / float(runtime[1]),
        peak_memory_bytes=peak_memory_bytes,
        losses=tuple(float(loss) for loss in _LOSS.findall(text)),
    )


def _model_without_dropout(settings: Settings, folder: Path) -> Path:
    from harness.model_folder.find import resolve_model

    copied = Path(copytree(resolve_model(settings.model), folder / "model"))
    config = json.loads((copied / "config.json").read_text())
    config |= {key: 0.0 for key in config if key.endswith(("dropout_prob", "dropout"))}
    (copied / "config.json").write_text(json.dumps(config))
    return copied


def _rows(settings: Settings) -> list[dict[str, str]]:
    with settings.pairs_file.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _trainer_arguments(settings: Settings, folder: Path) -> list[Any]:
    """Arguments that every Trainer of transformers takes."""
    training = load(settings).config.training
    values: Mapping[str, Any] = {
        "output_dir": folder / "out",
        "per_device_train_batch_size": settings.batch,
        "max_steps": settings.steps,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule,
        "warmup_ratio": 0,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": settings.precision == "bf16",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_drop_last": True,
    }
    return [item for key, value in values.items() for item in (f"--{key}", value)]


def _flag_embedding(settings: Settings, folder: Path, model: Path) -> list[Any]:
    recipe = load(settings).config
    lines = [{"query": row["query"], "pos": [row["positive"]], "neg": []} for row in _rows(settings)]
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    length = recipe.model.max_length
    own = ["--train_data", data, "--train_group_size", 1, "--query_max_len", length, "--passage_max_len", length]
    own += [
        "--temperature",
        recipe.loss.temperature,
        "--sentence_pooling_method",
        "mean",
        "--model_name_or_path",
        model,
    ]
    return ["-m", "FlagEmbedding.finetune.embedder.encoder_only.base", *own, *_trainer_arguments(settings, folder)]


def _tevatron(settings: Settings, folder: Path, model: Path) -> list[Any]:
    """Without its gradient cache, which needs a package that is not on PyPI."""
    recipe = load(settings).config
    lines = [{"query": row["query"], "positives": [row["positive"]], "negatives": []} for row in _rows(settings)]
    (folder / "train").mkdir()
    (folder / "train" / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    length = recipe.model.max_length
    own = ["--train_dir", folder / "train", "--train_n_passages", 1, "--q_max_len", length, "--p_max_len", length]
    own += ["--do_train", "--remove_unused_columns", False, "--model_name_or_path", model]
    return ["-m", "tevatron.driver.train", *own, *_trainer_arguments(settings, folder)]


COMMANDS: Mapping[str, Callable[[Settings, Path, Path], list[Any]]] = {
    "FlagEmbedding": _flag_embedding,
    "Tevatron": _tevatron,
}
