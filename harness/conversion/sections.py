"""The sections of a recipe that several arguments of another trainer make together: model, training, deepspeed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.conversion.table import Remark

_POOLINGS = {"cls": "cls", "mean": "mean", "avg": "mean", "last_token": "last", "last": "last", "eos": "last"}
_LORA = {
    "rank": ("lora_rank", "lora_r"), "alpha": ("lora_alpha",), "dropout": ("lora_dropout",),
    "target_modules": ("target_modules", "lora_target_modules"),
}  # fmt: skip
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def model_section(known: Mapping[str, Any]) -> dict[str, Any]:
    """`model`: name, pooling, dims, lengths.

    Raises:
        ValueError: no model is named, or a pooling that is unknown here.
    """
    if not isinstance(known.get("model_name_or_path"), str):
        raise ValueError("model_name_or_path: got none, expected the model among the arguments")
    model: dict[str, Any] = {"name_or_path": known["model_name_or_path"]}
    pooling = known.get("sentence_pooling_method", known.get("pooling"))
    if pooling is not None:
        if pooling not in _POOLINGS:
            raise ValueError(f"pooling: got {pooling!r}, expected one of {', '.join(_POOLINGS)}")
        model["pooling"] = _POOLINGS[pooling]
    if known.get("use_mrl", "mrl_dims" not in known) and "mrl_dims" in known:
        dims = known["mrl_dims"]
        model["matryoshka_dims"] = sorted(dims if isinstance(dims, list) else [dims])
    if "matryoshka_dims" in known:
        order = sorted(range(len(known["matryoshka_dims"])), key=lambda i: known["matryoshka_dims"][i])
        for key in ("matryoshka_dims", "matryoshka_weights"):
            if key in known:
                model[key] = [known[key][i] for i in order]
    lengths = [int(known[name]) for name in ("query_max_len", "passage_max_len") if name in known]
    if lengths:
        model["max_length"] = max(lengths)
    for name, key in (("query_max_len", "query_max_length"), ("passage_max_len", "document_max_length")):
        if name in known:
            model[key] = int(known[name])
    if known.get("use_flash_attn"):
        model["attention"] = "flash_attention_2"
    for name in ("normalize_embeddings", "normalize"):
        if name in known:
            model["normalize"] = bool(known[name])
    if known.get("use_lora") or known.get("lora"):
        model["lora"] = _lora(known)
    return model


def _lora(known: Mapping[str, Any]) -> dict[str, Any]:
    """`model.lora`, from FlagEmbedding's or Tevatron's names for its parts."""
    settings: dict[str, Any] = {}
    for key, names in _LORA.items():
        value = next((known[name] for name in names if name in known), None)
        if value is not None:
            settings[key] = value
    targets = settings.get("target_modules")
    if isinstance(targets, str) and targets not in ("auto", "all-linear"):
        settings["target_modules"] = [name.strip() for name in targets.split(",") if name.strip()]
    return settings


def batch_and_steps(known: Mapping[str, Any], tasks: list[dict[str, Any]], remarks: list[Remark]) -> dict[str, Any]:
    """`training`, and what goes with it in `loss`, `data`, `checkpoint` and `evaluation`."""
    training: dict[str, Any] = {}
    steps = int(known.get("max_steps", -1))
    if steps > 0:
        training["steps"] = steps
    else:
        training["epochs"] = float(known.get("num_train_epochs", 3))  # transformers' default
        if "num_train_epochs" not in known:
            why = "neither epochs nor steps: transformers trains 3 epochs then, and so does the recipe"
            remarks.append(Remark("num_train_epochs", None, "differs", "training.epochs", why))
    if known.get("warmup_steps"):
        if float(known["warmup_steps"]) < 1:  # transformers 5 takes it for a share of the steps
            training["warmup_ratio"] = float(known["warmup_steps"])
        elif steps > 0:
            training["warmup_ratio"] = round(float(known["warmup_steps"]) / steps, 6)
        else:
            why = "a share of the steps here, which are not known before the data is read; set training.warmup_ratio"
            remarks.append(Remark("warmup_steps", known["warmup_steps"], "differs", "training.warmup_ratio", why))
    elif "warmup_ratio" not in known:
        training["warmup_ratio"] = 0.0  # their default; ours is 0.05
    training.setdefault("weight_decay", float(known.get("weight_decay", 0.0)))  # likewise
    training["learning_rate"] = float(known.get("learning_rate", 5e-5))  # likewise
    training["precision"] = _precision(known)
    if "adam_beta1" in known or "adam_beta2" in known:
        training["adam_betas"] = [float(known.get("adam_beta1", 0.9)), float(known.get("adam_beta2", 0.999))]
    tree: dict[str, Any] = {"training": training}
    if len(tasks) > 1:
        tree["loss"] = {"balance": _balance(known)}
    if "scale" in known:  # of retrieval losses and of pair losses, which have a temperature each
        keys = {"cosent_temperature" if task["kind"] == "sts" else "temperature" for task in tasks}
        tree.setdefault("loss", {}).update({key: 1 / float(known["scale"]) for key in sorted(keys)})
    _intervals(tree, known)
    return tree


def _precision(known: Mapping[str, Any]) -> str:
    if known.get("bf16"):
        return "bf16"
    return "fp16" if known.get("fp16") else _PRECISIONS.get(str(known.get("dtype")), "fp32")


def _balance(known: Mapping[str, Any]) -> str:
    if known.get("multi_dataset_batch_sampler") == "round_robin":
        return "alternate"
    return "homogeneous" if known.get("same_dataset_within_batch", "multi_dataset_batch_sampler" in known) else "cbb"


def _intervals(tree: dict[str, Any], known: Mapping[str, Any]) -> None:
    for name, strategy, section in (
        ("save_steps", "save_strategy", "checkpoint"),
        ("eval_steps", "eval_strategy", "evaluation"),
    ):
        value = known.get(name)
        if isinstance(value, int) and value >= 1 and known.get(strategy, "steps") == "steps":
            tree.setdefault(section, {})["every"] = value
    if known.get("overwrite_output_dir"):
        tree.setdefault("checkpoint", {})["resume"] = "auto"


def sharding(known: Mapping[str, Any], remarks: list[Remark]) -> dict[str, Any]:
    """`deepspeed`: the file of ds_configs/ with the ZeRO stage of the trainer's JSON."""
    path = known.get("deepspeed")
    if path is None:
        return {"deepspeed": "zero0"}
    stage, offloads = None, False
    if isinstance(path, str) and Path(path).is_file():
        try:
            zero = json.loads(Path(path).read_text(encoding="utf-8")).get("zero_optimization", {})
            stage, offloads = zero.get("stage"), "offload_optimizer" in zero
        except (ValueError, AttributeError):
            raise ValueError(f"deepspeed: got {path}, which is no JSON object, expected DeepSpeed's settings") from None
    else:
        named = re.search(r"(?:stage|zero)_?([0-3])", str(path).lower())
        stage, offloads = int(named[1]) if named else None, "offload" in str(path).lower()
    if stage not in (0, 1, 2, 3):
        why = "its ZeRO stage is not known, so the recipe has stage 1; set deepspeed: zero0 to zero3"
        remarks.append(Remark("deepspeed", path, "differs", "deepspeed", why))
        return {"deepspeed": "zero1"}
    return {"deepspeed": f"zero{stage}_offload" if offloads and stage >= 2 else f"zero{stage}"}
