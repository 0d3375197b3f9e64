"""What another trainer was given, and whose arguments they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.conversion.script.values import DataSet, LossCall

Trainer = Literal["FlagEmbedding", "sentence-transformers", "Tevatron"]
TRAINERS: tuple[Trainer, ...] = ("FlagEmbedding", "sentence-transformers", "Tevatron")


@dataclass(slots=True)
class Given:
    """The arguments by name, without dashes; how many ranks the launcher starts; what could not be read, in words.

    data: of a script, what is trained on: the name that the trainer knows it by or none, the rows, their loss. scored:
        what is evaluated: the evaluator's name or none, the rows.
    """

    trainer: Trainer
    arguments: dict[str, Any]
    ranks: int | None = None
    losses: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    data: list[tuple[str, DataSet, LossCall | None]] = field(default_factory=list)
    scored: list[tuple[str, DataSet]] = field(default_factory=list)
    module: str = ""  # what the command runs, as FlagEmbedding.finetune.embedder.decoder_only.base


def trainer_of(hints: str, arguments: Mapping[str, Any], where: str, trainer: Trainer | None) -> Trainer:
    """Whose arguments they are: as said, by the module's name, or by arguments that only one of them has."""
    if trainer is not None:
        return trainer
    for name, module in (("FlagEmbedding", "flagembedding"), ("Tevatron", "tevatron")):
        if module in hints.lower():
            return name  # type: ignore[return-value]
    own: dict[Trainer, set[str]] = {
        "FlagEmbedding": {"sentence_pooling_method", "train_data", "knowledge_distillation", "negatives_cross_device"},
        "sentence-transformers": {"batch_sampler", "multi_dataset_batch_sampler", "loss", "prompts"},
        "Tevatron": {"dataset_name", "dataset_path", "grad_cache", "append_eos_token"},
    }
    fitting = [name for name, keys in own.items() if keys & set(arguments)]
    if len(fitting) != 1:
        raise ValueError(
            f"{where}: got arguments of {' or '.join(fitting) or 'no trainer that is known'}, expected those of one of "
            f"{', '.join(TRAINERS)}; say which: --from NAME"
        )
    return fitting[0]
