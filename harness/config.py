"""The whole recipe as one RunConfig. Each of its sections is defined beside the code that reads it.

    recipe.yaml + --set  →  tree of plain values  →  RunConfig (typed, frozen, checked)  →  the run folder's recipe.yaml

This module imports neither torch nor transformers, so that a mistake in a recipe is found in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from harness.data.config import TaskConfig, check_listed_negatives
from harness.data.data_config import DataConfig, check_batch
from harness.encoder.config import ModelConfig, check_soft_mask
from harness.engine.config import CheckpointConfig, TrainingConfig, problem_of_stage
from harness.evaluation.config import EvaluationConfig
from harness.losses.config import LossConfig
from harness.mining.config import GuideConfig, GuidePromptsConfig, MiningConfig
from harness.prompts import ModelPrompts
from harness.prompts.notes import family_warning, passage_warning, task_lines, template_warning, unused_warning
from harness.prompts.run_prompts import TaskPrompts, differences, prompts_of_run
from harness.report.config import ReportConfig
from harness.settings.deepspeed_json import load_deepspeed_json, zero_stage
from harness.settings.plain_name import NAME_PATTERN
from harness.settings.recipe_file import apply_override, build, find_recipe, show
from harness.settings.section import Section
from harness.settings.yaml_text import dump_yaml, read_yaml
from harness.types import EncodingRole

RECIPES = Path(__file__).parent / "recipes"
CHECKPOINTS, BANKS = "checkpoints", "banks"  # folders of a run


class RunConfig(Section):
    """A whole experiment. name: of the run. deepspeed: a file of ds_configs/ or a JSON's path. output: its folder."""

    name: str = Field(pattern=NAME_PATTERN)
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
    report: ReportConfig = ReportConfig()
    output: str = Field(default_factory=lambda keys: f"runs/{keys.get('name')}", min_length=1)

    @model_validator(mode="after")
    def _check_tasks(self) -> RunConfig:
        names = [task.name for task in self.tasks]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"tasks: got the name {repeated} twice, expected a name of its own for every task")
        epoch_of = self.training.epoch_of
        if epoch_of is not None and epoch_of not in names:
            raise ValueError(f"training.epoch_of: got {show(epoch_of)}, expected one of the tasks {', '.join(names)}")
        check_batch(self.tasks, self.data)
        if self.mining.ranks_anew:
            check_listed_negatives(self.tasks)
        self.loss.check_named({name for task in self.tasks for name in task.losses})
        return self

    @model_validator(mode="after")
    def _check_guide(self) -> RunConfig:
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
        return self

    @model_validator(mode="after")
    def _check_attention(self) -> RunConfig:
        if self.model.attention == "flash_attention_2" and self.training.precision == "fp32":
            raise ValueError(
                "model.attention: got flash_attention_2 with training.precision fp32, expected bf16 or fp16, the only "
                "numbers it computes with; set training.precision: bf16 or model.attention: sdpa"
            )
        if self.training.steps is not None:  # of epochs: once their steps are known
            check_soft_mask(self.model, self.training.steps)
        return self

    @model_validator(mode="after")
    def _check_dims(self) -> RunConfig:
        dims, projection_dim = self.model.matryoshka_dims, self.model.projection_dim
        if dims is not None and projection_dim is not None and dims[-1] > projection_dim:
            raise ValueError(
                f"model.matryoshka_dims: got {dims[-1]}, expected at most model.projection_dim ({projection_dim}); "
                "lower the former or raise the latter"
            )
        return self

    @model_validator(mode="after")
    def _check_main_metric(self) -> RunConfig:
        metric = self.evaluation.main_metric
        has_scores = self.evaluation.data or self.evaluation.mteb is not None
        if metric is not None and (not has_scores or not all(metric.partition("/"))):
            raise ValueError(
                f"evaluation.main_metric: got {show(metric)}, expected DATASET/METRIC of evaluation.data or mteb"
            )
        return self

    @model_validator(mode="after")
    def _fill_in_intervals(self) -> RunConfig:
        return with_intervals(self)


def with_intervals(config: RunConfig) -> RunConfig:
    """The same recipe, which saves and evaluates every tenth of the run where it does not say how often.

    A run that is killed after hours must have something to go on with. The resolved recipe states the numbers; of a run
    of epochs they are known once its data is read.
    """
    if config.training.steps is not None:
        tenth = max(1, config.training.steps // 10)
        for name, section in (("checkpoint", config.checkpoint), ("evaluation", config.evaluation)):
            if section.every is None:  # the fields of a section are frozen for everybody else
                object.__setattr__(config, name, section.model_copy(update={"every": tenth}))
    return config


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A checked recipe and where its relative data paths are looked up: beside the recipe, then under `data_root`.

    given: the plain values that were given, without defaults.
    """

    config: RunConfig
    recipe_folder: Path
    data_root: Path | None = None
    given: Any = field(default=None, compare=False, repr=False)


def load_recipe(
    recipe: str, overrides: Sequence[str] = (), data_root: Path | None = None, folder: Path | None = None
) -> LoadedRecipe:
    """Read a recipe by name (a file of harness/recipes/) or path, apply `key.path=value` overrides, and check it.

    Raises:
        ValueError: one line per mistake, `FILE: key.path: got ..., expected ...`.
    """
    path = find_recipe(recipe, RECIPES)
    if data_root is not None and not data_root.is_dir():
        raise ValueError(f"--data-root: got {data_root}, expected an existing folder")
    return check_tree(read_yaml(path), str(path), folder or path.parent, overrides, data_root)


def check_tree(
    tree: Any, where: str, folder: Path, overrides: Sequence[str] = (), data_root: Path | None = None
) -> LoadedRecipe:
    """Check the plain values of a recipe, after `key.path=value` overrides, which are applied in place.

    where: what messages call the recipe. folder: where relative paths are looked up first, by default beside the file.
    """
    overridden = [apply_override(tree, override) for override in overrides] if isinstance(tree, dict) else []
    config = build(RunConfig, tree, where, overridden)
    problem = problem_of_stage(config.training, zero_stage(load_deepspeed_json(config.deepspeed, folder)))
    if problem is not None:
        raise ValueError(f"{where}: {problem}")
    return LoadedRecipe(config, folder, data_root, tree)


def dump(config: RunConfig) -> str:
    """The resolved recipe as YAML; reading it gives an equal RunConfig."""
    return dump_tree(config.model_dump(mode="json"))


def dump_tree(tree: dict[str, Any]) -> str:
    """The values of a recipe as YAML."""
    return dump_yaml(tree)


def max_lengths(config: RunConfig) -> dict[EncodingRole, int]:
    """Longest text of each role, tokens."""
    model = config.model
    query = model.query_max_length or model.max_length
    return {"query": query, "document": model.document_max_length or model.max_length, "sentence": query}


def inference_prompts(config: RunConfig) -> ModelPrompts:
    """The prompts of the run's model, by role and by name: what export stores and what evaluation reads.

    Raises:
        ValueError: a task whose prompt has to be stored under its name is called like a role.
    """
    start = ModelPrompts(config.model.prompts or {}, config.model.default_prompt_name or None)
    return prompts_of_run(
        _task_prompts(config),
        start,
        query_prompt=config.evaluation.query_prompt,
        document_prompt=config.evaluation.document_prompt,
    )


def _task_prompts(config: RunConfig) -> list[TaskPrompts]:
    return [TaskPrompts(task.name, task.kind, task.prompts.to_prompts()) for task in config.tasks]


def with_folder_prompts(config: RunConfig) -> RunConfig:
    """A copy with every prompt filled in: what the recipe leaves open is what the folders of model and guide store.

    Filled in again, the copy stays as it is.

    Raises:
        ValueError: no such model, or its prompts are no texts by name.
    """
    from harness.encoder.stored_prompts import prompts_of_folder  # loads torch

    model, guide = config.model, config.guide
    stored = prompts_of_folder(model.name_or_path, model.trust_remote_code)
    named, default = {**stored.named, **(model.prompts or {})}, model.default_prompt_name
    if default is None and stored.default_name:
        # Nobody may train every task with other prompts, and leave the folder's before the texts of plain `encode`.
        default = "" if all(task.prompts.query is not None for task in config.tasks) else stored.default_name
    own = ModelPrompts.of_folder(named, default, "model")
    tasks = [
        task.model_copy(update={"prompts": task.prompts.filled(own.of_kind(task.kind), pairs=task.kind == "retrieval")})
        for task in config.tasks
    ]
    if guide is not None:
        guide = guide.model_copy(update={"prompts": _guide_prompts(guide)})
    model = model.model_copy(update={"prompts": named or None, "default_prompt_name": default})
    return config.model_copy(update={"model": model, "tasks": tuple(tasks), "guide": guide})


def _guide_prompts(guide: GuideConfig) -> GuidePromptsConfig:
    """The guide's prompts, with those of its folder where the recipe gives none."""
    from harness.encoder.stored_prompts import prompts_of_folder

    try:
        stored = prompts_of_folder(guide.name_or_path, guide.trust_remote_code)
    except ValueError as error:
        raise ValueError(f"guide: got {guide.name_or_path}, which cannot be loaded ({error})") from error
    own = stored.of_kind("retrieval")
    given = guide.prompts
    sentence = given.sentence
    if sentence is None and given.query is None:
        sentence = stored.of_kind("classification").sentence
    return given.model_copy(
        update={
            "query": own.query if given.query is None else given.query,
            "document": own.document if given.document is None else given.document,
            "sentence": sentence,
        }
    )


def prompt_notes(recipe: RunConfig, filled: RunConfig) -> tuple[list[str], list[str]]:
    """(what stands before which text, a line per task; warnings of what may not be meant).

    recipe: as it was given. filled: the same with `with_folder_prompts`.
    """
    from harness.encoder.stored_prompts import missing_prompts

    tasks, model, guide = _task_prompts(filled), recipe.model, recipe.guide
    from_folder = {task.name for task, now in zip(recipe.tasks, filled.tasks, strict=True) if _took_own(task, now)}
    warnings = differences(
        tasks, query_prompt=recipe.evaluation.query_prompt, document_prompt=recipe.evaluation.document_prompt
    )
    own = ModelPrompts(filled.model.prompts or {}, filled.model.default_prompt_name or None)
    open_tasks = {task.name: task.kind for task in recipe.tasks if task.prompts.query is None}
    if own.is_empty and open_tasks:
        hint = missing_prompts(model.name_or_path, model.trust_remote_code)
        way_out = 'set model.prompts: {{query: {query}, document: {document}}}, or {{query: ""}} if none is meant'
        warnings += family_warning("model.name_or_path", model.name_or_path, hint, way_out) if not model.prompts else []
    prompts_of_task = {task.name: task.prompts for task in tasks}
    warnings += unused_warning(
        own, open_tasks, prompts_of_task, "set tasks.NAME.prompts, or the empty text to mean none"
    )
    warnings += template_warning({task.name: task.kind for task in recipe.tasks}, prompts_of_task)
    warnings += passage_warning(own)
    if guide is not None and guide.prompts.query is None and filled.guide and not filled.guide.prompts.query:
        hint = missing_prompts(guide.name_or_path, guide.trust_remote_code)
        way_out = 'set guide.prompts: {{query: {query}, document: {document}}}, or {{query: ""}} if none is meant'
        warnings += family_warning("guide.name_or_path", guide.name_or_path, hint, way_out)
    return task_lines(tasks, from_folder), warnings


def _took_own(recipe: TaskConfig, filled: TaskConfig) -> bool:
    """Whether a task got a prompt of the model's own."""
    given, now = recipe.prompts, filled.prompts
    return bool((given.query is None and now.query) or (given.document is None and now.document))
