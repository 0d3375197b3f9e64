"""The recipe's `evaluation` section."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, model_serializer, model_validator

from harness.data.config import PromptsConfig
from harness.evaluation.mteb.outcome import PREFIX
from harness.prompts import PromptChoice
from harness.prompts.of_recipe import check_prompts
from harness.settings.section import Section


class EvaluationDataConfig(Section):
    """One data set to score: its path, and the prompts of its texts if they are not the model's.

    A path alone may stand in place of the mapping. prompt_name: a task of the recipe, or the name of one of the model's
    prompts. prompts: the texts themselves; data without queries and documents uses `query` for all texts.
    """

    path: str  # a file or folder, looked up like a task's
    prompts: PromptsConfig = PromptsConfig()
    prompt_name: str | None = None

    @property
    def choice(self) -> PromptChoice:
        """The prompts that are asked for in place of the model's."""
        place = f"evaluation.data {self.path}"
        options = (f"{place}: prompts.query", f"{place}: prompts.document", f"{place}: prompt_name")
        return PromptChoice(self.prompts.query, self.prompts.document, self.prompt_name, options)

    @model_validator(mode="before")
    @classmethod
    def _accept_a_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _write_a_path(self, write: SerializerFunctionWrapHandler) -> Any:
        return write(self) if self.choice.is_given else self.path


class MtebConfig(Section):
    """Which tasks of mteb are scored during training, by mteb's names, and how often.

    languages: of tasks that have several, only these (`eng`, `cmn`); empty: all. data: a folder in which a data set
    `ORG/NAME` of the hub lies as `ORG/NAME`; what is not there is asked of the hub.
    """

    tasks: tuple[str, ...] = Field(min_length=1)  # names of mteb's tasks, such as T2Retrieval
    every: int | None = Field(None, ge=0)  # 0: never; null: as evaluation.every
    languages: tuple[str, ...] = ()
    data: str | None = None


class EarlyStoppingConfig(Section):
    """Ends a run after `patience` evaluations in a row that did not raise the main metric by more than `min_delta`.

    It is raised above the last score that had itself raised it. The starting model does not count.
    patience: evaluations in a row without a gain. min_delta: what counts as a gain.
    """

    patience: int = Field(ge=1)
    min_delta: float = Field(0.0, ge=0)


class EvaluationConfig(Section):
    """Which data sets are scored, and when: before training, every `every` steps, and after the last step.

    query_prompt, document_prompt: the prompts of queries and of documents in evaluation and in the exported model.
        Empty: those of the tasks, where the tasks agree.
    """

    every: int | None = Field(None, ge=0)  # steps; 0: never; null: every tenth of the run (recipe.yaml has the number)
    data: tuple[EvaluationDataConfig, ...] = ()
    # DATASET/METRIC whose best step becomes model/. null: model/ is the last step, and checkpoints/best, which is among
    # the regular checkpoints, has the best mean of all main metrics.
    main_metric: str | None = None
    early_stopping: EarlyStoppingConfig | None = None  # by main_metric; null: the run goes to its last step
    quantised: bool = False  # score vectors of 8 bits and of 1 bit a dimension, too; docs/exporting_formats.md
    ignore_identical_ids: bool = False  # retrieval: never rank the document with the query's id; see docs/evaluation.md
    query_prompt: str = ""
    document_prompt: str = ""
    mteb: MtebConfig | None = None  # needs the package mteb

    @property
    def mteb_every(self) -> int:
        """How often tasks of mteb are scored, steps; 0: never."""
        if self.mteb is None:
            return 0
        return (self.every or 0) if self.mteb.every is None else self.mteb.every

    @model_validator(mode="after")
    def _check_early_stopping(self) -> EvaluationConfig:
        of_mteb = self.mteb is not None and (self.main_metric or "").startswith(PREFIX)
        every = self.mteb.every if of_mteb and self.mteb and self.mteb.every is not None else self.every
        missing = "main_metric" if self.main_metric is None else "every above 0" if every == 0 else None
        if self.early_stopping is not None and missing is not None:
            raise ValueError(
                f"evaluation.early_stopping: got it without evaluation.{missing}, by which it judges; set that, or null"
            )
        return self

    @model_validator(mode="after")
    def _check_places(self, info: ValidationInfo) -> EvaluationConfig:
        check_prompts({"query_prompt": self.query_prompt, "document_prompt": self.document_prompt}, info)
        return self
