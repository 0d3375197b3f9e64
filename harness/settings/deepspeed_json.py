"""Reads the JSON that the recipe's `deepspeed` key names. It says how state is sharded, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.settings.in_short import in_short
from harness.settings.recipe_file import did_you_mean, show

DS_CONFIGS = Path(__file__).parents[1] / "ds_configs"

# Every setting has one owner. The recipe owns these keys of a DeepSpeed JSON; the value is the setting in the recipe.
OWNED_BY_RECIPE = {
    "train_batch_size": "tasks.NAME.quota",
    "train_micro_batch_size_per_gpu": "training.micro_batch_tokens",
    "gradient_accumulation_steps": "training.micro_batch_tokens",
    "optimizer": "training.learning_rate, training.weight_decay, training.adam_betas",
    "scheduler": "training.schedule, training.warmup_ratio",
    "gradient_clipping": "training.max_grad_norm",
    "fp16": "training.precision",
    "bf16": "training.precision",
    "bfloat16": "training.precision",
    "amp": "training.precision",
    "torch_autocast": "training.precision",
    "data_types": "training.precision",
    "activation_checkpointing": "model.gradient_checkpointing",
    "curriculum_learning": "tasks",
    "data_efficiency": "tasks",
    "elasticity": "tasks.NAME.quota",
    "checkpoint": "checkpoint",
    "steps_per_print": "output (every step is in metrics.jsonl)",
    "tensorboard": "output (tensorboard/ in the run folder)",
}

# The keys that a DeepSpeed JSON may hold: how state is sharded and moved, and which reports DeepSpeed prints. Other
# keys are refused, because they could change the gradient.
KEYS_OF_THE_JSON = (
    "zero_optimization", "communication_data_type", "aio", "comms_logger", "wall_clock_breakdown", "flops_profiler",
    "dump_state", "memory_breakdown",
)  # fmt: skip


# Keys of zero_optimization (ZeRO++) that reach DeepSpeed and that no test of this project runs.
UNTESTED_KEYS = ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights")


def untested_keys(deepspeed_json: dict[str, Any], name: str) -> list[str]:
    """A warning for each key that is in use and is not tested here."""
    zero = deepspeed_json.get("zero_optimization", {})
    return [
        f"{name}: zero_optimization.{key} goes to DeepSpeed as it is, and is not tested here: compare the losses of "
        "the first steps with a run without it"
        for key in UNTESTED_KEYS
        if zero.get(key)
    ]


def refuse_without_gpu(deepspeed_json: dict[str, Any], name: str, *, has_gpu: bool) -> dict[str, Any]:
    """The same JSON, unless it asks for what DeepSpeed can do on a GPU only.

    Raises:
        ValueError: weights or gradients are to be sent quantised, and there is no GPU.
    """
    for key, value in deepspeed_json.get("zero_optimization", {}).items():
        if key.startswith("zero_quantized_") and value and not has_gpu:
            raise ValueError(
                f"{name}: zero_optimization.{key}: got {show(value)} without a GPU, expected one, whose kernels do it; "
                "remove the key"
            )
    return deepspeed_json


def load_deepspeed_json(name: str, recipe_folder: Path) -> dict[str, Any]:
    """Read a file of ds_configs/ by name, or any JSON file by path (beside the recipe, then the working directory).

    Raises:
        ValueError: no such file, broken JSON, no ZeRO stage, a key that the recipe owns, or an unknown key.
    """
    path = _find_deepspeed_json(name, recipe_folder)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_key_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: got {error.msg}, expected valid JSON") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: got {str(error).removeprefix('got ')[:120]}; correct the JSON") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: got {show(tree)}, expected a JSON object")
    mistakes = [f"{path}: {in_short(key)}: {_why_refused(key)}" for key in tree if key not in KEYS_OF_THE_JSON]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    zero = tree.get("zero_optimization")
    if not isinstance(zero, dict) or zero.get("stage") not in (0, 1, 2, 3) or isinstance(zero["stage"], bool):
        raise ValueError(f"{path}: zero_optimization.stage: got {show(zero)}, expected a ZeRO stage: 0, 1, 2 or 3")
    return tree


def _why_refused(key: str) -> str:
    if key in OWNED_BY_RECIPE:
        return (
            "got a key that the recipe owns, expected only how state is sharded; "
            f"remove {key} there and set {OWNED_BY_RECIPE[key]} in the recipe"
        )
    return f"unknown key{did_you_mean(key, KEYS_OF_THE_JSON) or '; known keys: ' + ', '.join(KEYS_OF_THE_JSON)}"


def zero_stage(deepspeed_json: dict[str, Any]) -> int:
    """The ZeRO stage (0 to 3) of a loaded DeepSpeed JSON."""
    return int(deepspeed_json.get("zero_optimization", {}).get("stage", 0))


def _find_deepspeed_json(name: str, recipe_folder: Path) -> Path:
    if name.endswith(".json") or "/" in name:
        path = next((folder / name for folder in (recipe_folder, Path()) if (folder / name).is_file()), None)
        if path is None:
            raise ValueError(
                f"deepspeed: got {in_short(name)}, which is no file beside the recipe or in the working directory"
            )
        return path
    shipped = {path.stem: path for path in sorted(DS_CONFIGS.glob("*.json"))}
    if name not in shipped:
        raise ValueError(
            f"deepspeed: got {in_short(name)}, expected the path of a JSON file "
            f"or one of {', '.join(shipped)}{did_you_mean(name, shipped)}"
        )
    return shipped[name]


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"got the key {repeated} twice, expected every key once")
    return tree
