"""Floor 5: one RunConfig, composed of the sections that live beside the code that reads them.

    recipe.yaml + --set  →  tree of plain values  →  RunConfig (typed, frozen, checked)  →  the run folder's recipe.yaml

Nothing heavy is imported here: a mistake in a recipe costs milliseconds, not the start of a job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from harness.data.config import DataConfig, PromptsConfig, TaskConfig, check_shares
from harness.encoder.config import ModelConfig
from harness.engine.config import CheckpointConfig, TrainingConfig
from harness.evaluation.config import EvaluationConfig
from harness.losses.config import LossConfig
from harness.mining.config import GuideConfig, MiningConfig
from harness.recipe_file import apply_override, build, did_you_mean, read_yaml, show
from harness.section import Section
from harness.types import EncodingRole, TaskKind

RECIPES = Path(__file__).parent / "recipes"
DS_CONFIGS = Path(__file__).parent.parent / "ds_configs"

# One owner per knob: keys of a DeepSpeed JSON that are not the JSON's to hold, and the recipe's knob to turn instead.
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

# What a DeepSpeed JSON may hold: how state is sharded and moved, and reports. Anything else could change the gradient.
KEYS_OF_THE_JSON = (
    "zero_optimization", "communication_data_type", "aio", "comms_logger", "wall_clock_breakdown", "flops_profiler",
    "dump_state", "memory_breakdown",
)  # fmt: skip


CHECKPOINTS, BANKS = "checkpoints", "banks"  # folders of a run


class RunConfig(Section):
    """A whole experiment. `deepspeed` names a file of ds_configs/ or a path; `output` defaults to runs/NAME."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    model: ModelConfig
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    mining: MiningConfig = MiningConfig()
    guide: GuideConfig | None = None
    training: TrainingConfig
    deepspeed: str = "zero1"
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    output: str = Field(default_factory=lambda keys: f"runs/{keys.get('name')}")

    @model_validator(mode="after")
    def _check_sections_together(self) -> RunConfig:
        names = [task.name for task in self.tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"tasks: got the name {twice} twice, expected a name of its own for every task")
        check_shares(self.tasks, self.data)
        distilled = next((task for task in self.tasks if task.distillation_losses), None)
        if distilled is not None and (self.mining.remine.every or self.mining.exhausted == "remine"):
            raise ValueError(
                f"mining: got re-ranking with tasks.{distilled.name}.loss {', '.join(distilled.losses)}, expected "
                "negatives that a ranker has scored; set mining.remine.every: 0 and mining.exhausted: keep or wrap"
            )
        guided = [task.name for task in self.tasks if task.negatives.guide]
        if guided and self.guide is None:
            raise ValueError(
                f"tasks.{guided[0]}.negatives.guide: got true without a guide, expected the section guide with a "
                "name_or_path"
            )
        if self.guide is not None and not guided:
            raise ValueError(
                f"guide: got {show(self.guide.name_or_path)}, but no task asks for it; set negatives.guide: true in a "
                "task, or remove the section"
            )
        dims, projection_dim = self.model.matryoshka_dims, self.model.projection_dim
        if dims is not None and projection_dim is not None and dims[-1] > projection_dim:
            raise ValueError(
                f"model.matryoshka_dims: got {dims[-1]}, expected at most model.projection_dim ({projection_dim}); "
                "lower the former or raise the latter"
            )
        metric = self.evaluation.main_metric
        if metric is not None and (not self.evaluation.data or not all(metric.partition("/"))):
            raise ValueError(
                f"evaluation.main_metric: got {show(metric)}, expected DATASET/METRIC of a data set in evaluation.data"
            )
        return self


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A checked recipe and where its relative data paths are looked up: beside the recipe, then under `data_root`."""

    config: RunConfig
    recipe_folder: Path
    data_root: Path | None = None


def load_recipe(recipe: str, overrides: Sequence[str] = (), data_root: Path | None = None) -> LoadedRecipe:
    """Read a recipe by name (a file of harness/recipes/) or path, apply `key.path=value` overrides, and check it.

    Raises:
        ValueError: one line per mistake, `FILE: key.path: got ..., expected ...`.
    """
    path = _find_recipe(recipe)
    if data_root is not None and not data_root.is_dir():
        raise ValueError(f"--data-root: got {data_root}, expected an existing folder")
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: got {show(tree)}, expected a recipe: a mapping of keys to values")
    overridden = [apply_override(tree, override) for override in overrides]
    config = build(RunConfig, tree, str(path), overridden)
    stage = zero_stage(load_deepspeed_json(config.deepspeed, path.parent))
    precision = config.training.precision
    if precision != "fp32" and stage == 0:
        raise ValueError(
            f"{path}: training.precision: got {precision} with deepspeed: {config.deepspeed} (ZeRO stage 0), which "
            "keeps no fp32 weights, expected stage 1 or higher; set deepspeed: zero1 or training.precision: fp32"
        )
    return LoadedRecipe(config, path.parent, data_root)


def _find_recipe(recipe: str) -> Path:
    shipped = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if recipe in shipped:
        return shipped[recipe]
    path = Path(recipe)
    if path.is_file():
        return path
    raise ValueError(
        f"RECIPE: got {recipe}, which is no file, expected the path of a YAML file "
        f"or one of {', '.join(shipped)}{did_you_mean(recipe, shipped)}"
    )


def load_deepspeed_json(name: str, recipe_folder: Path) -> dict[str, Any]:
    """Read a file of ds_configs/ by name, or any JSON file by path (beside the recipe, then the working directory).

    Raises:
        ValueError: no such file, broken JSON, no ZeRO stage, a key that the recipe owns, or an unknown key.
    """
    path = _find_deepspeed_json(name, recipe_folder)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_keys_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: got {error.msg}, expected valid JSON") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: got {show(tree)}, expected a JSON object")
    mistakes = [f"{path}: {key}: {_why_not(key)}" for key in tree if key not in KEYS_OF_THE_JSON]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    zero = tree.get("zero_optimization")
    if not isinstance(zero, dict) or zero.get("stage") not in (0, 1, 2, 3) or isinstance(zero["stage"], bool):
        raise ValueError(f"{path}: zero_optimization.stage: got {show(zero)}, expected a ZeRO stage: 0, 1, 2 or 3")
    return tree


def _why_not(key: str) -> str:
    if key in OWNED_BY_RECIPE:
        return (
            "got a key that the recipe owns, expected only how state is sharded; "
            f"remove {key} there and set {OWNED_BY_RECIPE[key]} in the recipe"
        )
    return f"unknown key{did_you_mean(key, KEYS_OF_THE_JSON) or '; known keys: ' + ', '.join(KEYS_OF_THE_JSON)}"


def zero_stage(deepspeed_json: dict[str, Any]) -> int:
    """The ZeRO stage (0 to 3) of a loaded DeepSpeed JSON."""
    return int(deepspeed_json["zero_optimization"]["stage"])


def _find_deepspeed_json(name: str, recipe_folder: Path) -> Path:
    if name.endswith(".json") or "/" in name:
        path = next((place / name for place in (recipe_folder, Path()) if (place / name).is_file()), None)
        if path is None:
            raise ValueError(f"deepspeed: got {name}, which is no file beside the recipe or in the working directory")
        return path
    if not DS_CONFIGS.is_dir():
        raise ValueError(
            f"deepspeed: got {name}, but ds_configs/ does not lie beside the installed package; give the path of a "
            "JSON file, or install from the checkout: pip install -c constraints.txt -e '.[demo]'"
        )
    shipped = {path.stem: path for path in sorted(DS_CONFIGS.glob("*.json"))}
    if name not in shipped:
        raise ValueError(
            f"deepspeed: got {name}, expected the path of a JSON file "
            f"or one of {', '.join(shipped)}{did_you_mean(name, shipped)}"
        )
    return shipped[name]


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"got the key {twice} twice, expected every key once")
    return tree


def dump(config: RunConfig) -> str:
    """The resolved recipe as YAML; reading it gives an equal RunConfig."""
    tree = config.model_dump(mode="json")
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


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
