"""The sections of a recipe that several arguments of another trainer make together: model, training, deepspeed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.conversion.arguments.table import Remark
from harness.conversion.given.given import Given, Trainer
from harness.conversion.script.values import DataSet
from harness.data.source.locate import dataset_name
from harness.evaluation.datasets import data_files
from harness.model_folder.find import DEMO_MODEL, resolve_model
from harness.model_folder.layout import read_layout

_POOLINGS = {"cls": "cls", "mean": "mean", "avg": "mean", "last_token": "last", "last": "last", "eos": "last"}
_ALL_POOLINGS = {*_POOLINGS.values(), "max", "mean_sqrt_len_tokens", "weightedmean"}
_METRICS = (  # of sentence-transformers' evaluators, and what they are called here
    (r"spearman(?:_cosine)?", "spearman"), (r"pearson(?:_cosine)?", "pearson"), (r"cosine_ap", "cosine_ap"),
    (r"cosine_(ndcg|map|mrr|recall)@(\d+)", r"\1_at_\2"),
)  # fmt: skip
_LORA = {
    "rank": ("lora_rank", "lora_r"), "alpha": ("lora_alpha",), "dropout": ("lora_dropout",),
    "target_modules": ("target_modules", "lora_target_modules"),
}  # fmt: skip
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def model_section(known: Mapping[str, Any], trainer: Trainer, remarks: list[Remark]) -> dict[str, Any]:
    """`model`: name, pooling, dims, lengths. sentence-transformers' length is that of the model's folder.

    Raises:
        ValueError: no model is named, or a pooling that is unknown here.
    """
    if not isinstance(known.get("model_name_or_path"), str):
        raise ValueError("model_name_or_path: got none, expected the model among the arguments")
    model: dict[str, Any] = {"name_or_path": known["model_name_or_path"]}
    pooling = known.get("sentence_pooling_method", known.get("pooling", known.get("pooling_mode")))
    if pooling is not None:
        model["pooling"] = _pooling(pooling)
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
    if trainer == "sentence-transformers":
        _what_the_folder_says(model, known, remarks)
    if known.get("use_flash_attn"):
        model["attention"] = "flash_attention_2"
    for name in ("normalize_embeddings", "normalize", "normlized"):
        if name in known:
            model["normalize"] = bool(known[name])
    if known.get("use_lora") or known.get("lora"):
        model["lora"] = _lora(known)
    return model


def _pooling(given: Any) -> Any:
    names = [_POOLINGS.get(str(name), str(name)) for name in (given if isinstance(given, list) else [given])]
    wrong = next((name for name in names if name not in _ALL_POOLINGS), None)
    if wrong is not None:
        raise ValueError(f"pooling: got {wrong!r}, expected one of {', '.join(_POOLINGS)}")
    return names[0] if len(names) == 1 else names


def _what_the_folder_says(model: dict[str, Any], known: Mapping[str, Any], remarks: list[Remark]) -> None:
    """sentence-transformers takes the length of the model's folder, and none of its prompts while training."""
    name = model["name_or_path"]
    layout = read_layout(resolve_model(name)) if name == DEMO_MODEL or Path(name).is_dir() else None
    if "max_seq_length" not in known and layout is not None and layout.max_length is not None:
        model["max_length"] = layout.max_length
    elif "max_seq_length" not in known:
        why = "not given: there the length of the model's folder, here 512; set model.max_length to that"
        remarks.append(Remark("max_seq_length", None, "differs", "model.max_length", why))
    if layout is not None and layout.prompts and "prompts" not in known:
        why = "not given: no prompt in training there; here the model's own, unless a task's prompts are empty"
        remarks.append(Remark("prompts", None, "differs", "tasks.NAME.prompts", why))


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
        if tree["loss"]["balance"] != "alternate":
            tree["data"] = {"batch": _divided(tasks, remarks)}
            if "epochs" in training and (largest := _largest(tasks)) is not None:
                training["epoch_of"] = largest
    _temperatures(tree, tasks)
    _intervals(tree, known)
    return tree


def _largest(tasks: list[dict[str, Any]]) -> str | None:
    """The task with the largest files, whose share is rounded least: an epoch of it is nearest to one of all data.

    None: a file is not here.
    """
    files = [[Path(path) for path in _listed(task["path"])] for task in tasks]
    if not all(file.is_file() for of_task in files for file in of_task):
        return None
    sizes = [sum(file.stat().st_size for file in of_task) for of_task in files]
    return str(tasks[sizes.index(max(sizes))]["name"])


def _divided(tasks: list[dict[str, Any]], remarks: list[Remark]) -> int:
    """`data.batch`: the batch, of which each task gets a share by the rows of its data.

    A step would hold the sum of the quotas, also where it holds one task only (homogeneous).
    """
    given = tasks[0]["quota"]
    batch = max(given, len(tasks))
    raised = f" (raised from {given}, which is less than one each)" if batch > given else ""
    why = f"{len(tasks)} tasks share the examples of a step by their rows, in whole examples, at least one each{raised}"
    for task in tasks:
        del task["quota"]
        task["share"] = "auto"
    remarks.append(Remark("data.batch", batch, "differs", "data.batch", why))
    return batch


def _precision(known: Mapping[str, Any]) -> str:
    if known.get("bf16"):
        return "bf16"
    return "fp16" if known.get("fp16") else _PRECISIONS.get(str(known.get("dtype")), "fp32")


def _balance(known: Mapping[str, Any]) -> str:
    if known.get("multi_dataset_batch_sampler") == "round_robin":
        return "alternate"
    return "homogeneous" if known.get("same_dataset_within_batch", "multi_dataset_batch_sampler" in known) else "cbb"


def _temperatures(tree: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
    """Temperatures on which all tasks of a kind of loss agree stand in `loss`."""
    for key, is_sts in (("cosent_temperature", True), ("temperature", False)):
        fitting = [task for task in tasks if (task["kind"] == "sts") == is_sts]
        values = {task.get("temperature") for task in fitting}
        if len(values) == 1 and None not in values:
            tree.setdefault("loss", {})[key] = values.pop()
            for task in fitting:
                del task["temperature"]


def evaluation_section(tree: dict[str, Any], given: Given, known: Mapping[str, Any], remarks: list[Remark]) -> None:
    """`evaluation.data`: what a script scores, if it is a file that lies here; and the metric of the best model."""
    trained = {path for task in tree["tasks"] for path in _listed(task["path"])}
    scored: dict[str, list[str]] = {}  # path: the names of its evaluators
    for name, data in given.scored:
        problem = _not_scored(data, trained)
        if problem:
            remarks.append(Remark("evaluation", data.path, "differs", "evaluation.data", f"{problem}; set it by hand"))
        else:
            scored.setdefault(str(data.path), []).append(name)
    if not scored:
        return
    section = tree.setdefault("evaluation", {})
    section["data"] = list(scored)
    metric = str(known.get("metric_for_best_model") or "").removeprefix("eval_")
    for place, (path, names) in zip(dataset_name(list(scored)), scored.items(), strict=True):
        for name in names:
            ours = _metric(metric.removeprefix(f"{name}_") if name else "")
            if ours is not None and Path(path).exists():
                section["main_metric"] = f"{place}/{ours}"


def _metric(theirs: str) -> str | None:
    found = ((re.fullmatch(pattern, theirs), ours) for pattern, ours in _METRICS)
    return next((match.expand(ours) for match, ours in found if match), None)


def _not_scored(data: DataSet, trained: set[str]) -> str | None:
    """Why rows that a script scores are no evaluation data as they lie there."""
    paths = _listed(data.path)
    if data.changes:
        return f"the script changes it ({', '.join(dict.fromkeys(data.changes))}); write the rows to a file"
    if len(paths) != 1 or not Path(paths[0]).exists():
        return "a file or folder is scored, and this is none that can be seen from here"
    if paths[0] in trained:
        return "it is trained on, too; write the split to a file of its own"
    try:
        data_files(Path(paths[0]))
    except ValueError as error:
        return f"it cannot be scored as it is ({' '.join(str(error).split())[:200]})"
    return None


def _listed(path: Any) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def _intervals(tree: dict[str, Any], known: Mapping[str, Any]) -> None:
    for name, strategy, section in (
        ("save_steps", "save_strategy", "checkpoint"),
        ("eval_steps", "eval_strategy", "evaluation"),
    ):
        value = known.get(name)
        if isinstance(value, int) and value >= 1 and known.get(strategy, "steps") == "steps":
            tree.setdefault(section, {})["every"] = value
    named = known.get("report_to", "all")
    trackers = [name for name in _listed(named) if name != "none"]
    if set(trackers) <= {"tensorboard", "wandb", "mlflow"}:
        tree["report"] = {"trackers": trackers}
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
