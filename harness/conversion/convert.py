"""Another trainer's arguments → a recipe, and a remark on every argument: none is dropped without a word."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.conversion.arguments import flag_embedding, sentence_transformers, tevatron
from harness.conversion.arguments.flag_embedding import FLAG_EMBEDDING
from harness.conversion.arguments.sentence_transformers import LOSSES_THERE, SENTENCE_TRANSFORMERS
from harness.conversion.arguments.table import Remark, Row
from harness.conversion.arguments.tevatron import TEVATRON
from harness.conversion.given.given import Given, Trainer
from harness.conversion.sections import batch_and_steps, evaluation_section, model_section, sharding
from harness.conversion.tasks import guide_of, tasks_of
from harness.settings.plain_name import plain_name
from harness.settings.recipe_file import did_you_mean

TABLES: dict[Trainer, tuple[Row, ...]] = {
    "FlagEmbedding": FLAG_EMBEDDING,
    "sentence-transformers": SENTENCE_TRANSFORMERS,
    "Tevatron": TEVATRON,
}

DEFAULTS: dict[Trainer, dict[str, Any]] = {
    "FlagEmbedding": flag_embedding.DEFAULTS,
    "sentence-transformers": sentence_transformers.DEFAULTS,
    "Tevatron": tevatron.DEFAULTS,
}


@dataclass(slots=True)
class Converted:
    """A recipe as plain values, what is to be said of each argument, and the ranks that the launcher started."""

    tree: dict[str, Any]
    remarks: list[Remark] = field(default_factory=list)
    ranks: int | None = None


def convert(given: Given, ranks: int | None = None) -> Converted:
    """The recipe of another trainer's arguments.

    ranks: how many processes it was started with; None: as the command line says, else 1.

    Raises:
        ValueError: there is no model or no data among the arguments, or a value that cannot be read.
    """
    table = {row.argument: row for row in TABLES[given.trainer]}
    known = {name: value for name, value in given.arguments.items() if name in table and value is not None}
    unset = next((n for n, value in known.items() if "$" in str(value) and table[n].verdict != "none"), None)
    if unset is not None:
        raise ValueError(f"{unset}: got {known[unset]}, a variable that is not set in the script, expected its value")
    remarks = [_remark(table[name], value) for name, value in known.items() if value not in table[name].harmless]
    defaults = {name: value for name, value in _defaults(given, known).items() if name not in known}
    remarks += [
        Remark(name, value, "differs", table[name].key.replace("task.", "tasks.NAME."), "not given: their default")
        for name, value in defaults.items()
    ]
    known |= defaults
    remarks += [_unknown(name, value, table) for name, value in given.arguments.items() if name not in table]
    remarks += [Remark("script", None, "none", "", line) for line in given.unread]
    remarks += [_of_loss(name) for name in dict.fromkeys(given.losses)]
    ranks = ranks or given.ranks
    if ranks is None and "per_device_train_batch_size" in known:
        why = "the number of GPUs is not known, so the quota is of 1; say --ranks N"
        remarks.append(Remark("per_device_train_batch_size", None, "differs", "tasks.NAME.quota", why))
    tree: dict[str, Any] = {"name": _name(known), "model": model_section(known, given.trainer, remarks)}
    tree["tasks"] = tasks_of(given, known, ranks or 1, remarks)
    if given.trainer == "sentence-transformers" and len(tree["tasks"]) > 1:
        _sampler_of_several(known, remarks)
    guide = next(filter(None, (guide_of(call) for _, _, call in given.data)), None)
    if guide is not None:
        tree["guide"] = {"name_or_path": guide}
    tree |= batch_and_steps(known, tree["tasks"], remarks)
    tree |= sharding(known, remarks)
    evaluation_section(tree, given, known, remarks)
    _direct(tree, known, table)
    return Converted(tree, remarks, ranks)


def _sampler_of_several(known: dict[str, Any], remarks: list[Remark]) -> None:
    """How sentence-transformers takes turns with several data sets, if nothing is said."""
    if "multi_dataset_batch_sampler" not in known:
        known["multi_dataset_batch_sampler"] = "proportional"
        why = "not given: their default, one data set a batch; homogeneous, and sts tasks in every step"
        remarks.append(Remark("multi_dataset_batch_sampler", "proportional", "differs", "loss.balance", why))


def _defaults(given: Given, known: Mapping[str, Any]) -> dict[str, Any]:
    """What arguments that are not given are there. FlagEmbedding trains decoders with LoRA unless told not to."""
    defaults = DEFAULTS[given.trainer]
    if given.trainer == "FlagEmbedding":
        is_decoder = "decoder_only" in given.module or not flag_embedding.OF_DECODERS.isdisjoint(known)
        return defaults | (flag_embedding.LORA_DEFAULTS if known.get("use_lora", is_decoder) else {})
    return defaults | (tevatron.LORA_DEFAULTS if known.get("lora") else {})


def _direct(tree: dict[str, Any], known: Mapping[str, Any], table: Mapping[str, Row]) -> None:
    """Put in what only has another name: rows with a key of a section, whose value no other function has set."""
    for name, value in known.items():
        row, (section, _, key) = table[name], table[name].key.partition(".")
        if not row.key or section == "task" or row.verdict == "none" or value in row.harmless or name in _SET_ELSEWHERE:
            continue
        try:
            converted = row.value(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: got {value!r}, expected a value for {row.key}") from None
        if key:
            tree.setdefault(section, {}).setdefault(key, converted)
        else:
            tree[section] = converted


# Arguments with a key that `sections.py` and `tasks.py` fill in.
_SET_ELSEWHERE = {
    "scale", "model_name_or_path", "pooling_mode",
    "run_name", "sentence_pooling_method", "pooling", "normalize_embeddings", "normalize", "normlized",
    "use_mrl", "mrl_dims", "use_flash_attn", "sub_batch_size", "mini_batch_size", "gc_q_chunk_size", "gc_p_chunk_size",
    "fp16", "bf16", "dtype", "num_train_epochs", "max_steps", "warmup_steps", "adam_beta1", "adam_beta2", "deepspeed",
    "save_strategy", "eval_strategy", "evaluation_strategy", "overwrite_output_dir", "metric_for_best_model",
    "report_to", "same_dataset_within_batch", "use_lora", "lora", "lora_rank", "lora_r", "lora_alpha", "lora_dropout",
    "target_modules", "lora_target_modules", "peft_model_path", "lora_name_or_path",
    "multi_dataset_batch_sampler", "query_max_len", "passage_max_len", "eval_steps", "save_steps",
}  # fmt: skip


def beside(tree: dict[str, Any], folder: Path) -> None:
    """Name data that is here as a recipe in `folder` has to: relative to the recipe, not to where the command runs."""

    def moved(place: str) -> str:
        here = Path(place)
        is_here = not here.is_absolute() and here.exists()
        return os.path.relpath(here, folder) if is_here else place

    for task in tree["tasks"]:
        task["path"] = moved(task["path"]) if isinstance(task["path"], str) else [moved(one) for one in task["path"]]
        if "corpus" in task:
            task["corpus"] = moved(task["corpus"])
    if "data" in tree.get("evaluation", {}):
        tree["evaluation"]["data"] = [moved(one) for one in tree["evaluation"]["data"]]


def _name(known: Mapping[str, Any]) -> str:
    name = str(known.get("run_name") or Path(str(known.get("output_dir") or "converted")).name)
    return plain_name(name, "converted")


def _remark(row: Row, value: Any) -> Remark:
    key = row.key.replace("task.", "tasks.NAME.")
    return Remark(row.argument, value, row.verdict, key, row.none or row.differs)


def _unknown(name: str, value: Any, table: Mapping[str, Row]) -> Remark:
    why = f"unknown here, and not converted{did_you_mean(name, table)}"
    return Remark(name, value, "none", "", why)


def _of_loss(name: str) -> Remark:
    loss = LOSSES_THERE.get(name)
    if loss is None:
        return Remark(name, None, "none", "", f"a loss that is unknown here{did_you_mean(name, LOSSES_THERE)}")
    if loss.none:
        return Remark(name, None, "none", "", loss.none)
    return Remark(name, None, "differs" if loss.note else "same", f"kind: {loss.kind}, loss: {loss.loss}", loss.note)
