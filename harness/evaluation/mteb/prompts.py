"""Which prompt stands before the texts of an mteb task: by mteb's names, in mteb's order, then by our roles.

mteb looks for `TASK-query`, `TASK`, `TYPE-query`, `TYPE`, `query` (or `-document`, `document`) among a model's prompts
(`get_prompt_name`, mteb 2.26.24). Where it finds none, sentence-transformers' own rules apply, as in `ModelPrompts`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from mteb.abstasks.task_metadata import TaskMetadata, TaskType
from mteb.models.abs_encoder import get_prompt_name
from mteb.types import PromptType

from harness.prompts import ModelPrompts, PromptChoice
from harness.prompts.model_prompts import has_pairs
from harness.prompts.placeholders import check_escapes, check_prompt
from harness.settings.recipe_file import did_you_mean
from harness.settings.yaml_text import read_yaml
from harness.types import EncodingRole

_KIND_OF_TYPE = {
    "Retrieval": "retrieval", "InstructionRetrieval": "retrieval", "Reranking": "reranking",
    "InstructionReranking": "reranking", "STS": "sts", "PairClassification": "pair_classification",
    "Classification": "classification", "MultilabelClassification": "classification", "Clustering": "clustering",
}  # fmt: skip
_PROMPT_TYPES = tuple(kind.value for kind in PromptType)
PLACE_OF_INSTRUCTION = "{instruction}"


@dataclass(frozen=True, slots=True)
class TaskPrompts:
    """The prompts of all tasks.

    given: by mteb's names, of the user, used first. template: a text with {instruction}, which is replaced by what mteb
    says of a task, before queries and sentences; for models that are told what to do. instructions: that of each task.
    """

    model: ModelPrompts
    choice: PromptChoice = PromptChoice()  # noqa: RUF009 (frozen)
    given: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)

    def before(self, task: TaskMetadata, prompt_type: PromptType | None) -> str:
        """The prompt of a task's queries, documents, or (None) texts that are neither."""
        name = get_prompt_name(dict(self.given), task, prompt_type)
        if name is not None:
            return self.given[name]
        if self.choice.is_given:
            return self._chosen(_KIND_OF_TYPE.get(task.type), role_of(prompt_type))
        if self.template is not None and prompt_type != PromptType.document:
            instruction = _of_metadata(task, prompt_type) or self.instructions.get(task.name, "")
            return self.template.replace(PLACE_OF_INSTRUCTION, instruction) if instruction else ""
        name = get_prompt_name(dict(self.model.named), task, prompt_type)
        if name is not None:
            return self.model.named[name]
        return self.model.of_kind(_KIND_OF_TYPE.get(task.type)).before(role_of(prompt_type))

    def _chosen(self, kind: str | None, role: EncodingRole) -> str:
        choice = self.choice
        if not has_pairs(kind) and kind is not None:  # the document prompt is meant for the other tasks
            choice = PromptChoice(choice.query, None, choice.name, choice.options)
        return self.model.chosen(kind, choice).before(role)

    def of_task(self, task: TaskMetadata) -> dict[str, str]:
        """Role → prompt, as results name them."""
        if has_pairs(_KIND_OF_TYPE.get(task.type)):
            return {kind.value: self.before(task, kind) for kind in (PromptType.query, PromptType.document)}
        return {"sentence": self.before(task, None)}


def role_of(prompt_type: PromptType | None) -> EncodingRole:
    """Our name of a text's role."""
    if prompt_type is None:
        return "sentence"
    return "query" if prompt_type == PromptType.query else "document"


def _of_metadata(task: TaskMetadata, prompt_type: PromptType | None) -> str | None:
    """What mteb tells a model to do in this task."""
    prompt: Any = task.prompt
    return prompt.get((prompt_type or PromptType.query).value) if isinstance(prompt, dict) else prompt


def read_prompts(file: Path, tasks: Collection[str]) -> dict[str, str]:
    """Prompts by mteb's names, from a JSON or YAML file.

    Raises:
        ValueError: the file holds something else, or a name that means nothing to these tasks; one line.
    """
    tree: Any = read_yaml(file)
    if not isinstance(tree, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in tree.items()):
        raise ValueError(f"--prompts: got {file}, expected a mapping of names to texts, such as {{query: 'query: '}}")
    known = list(_with_roles([*tasks, *get_args(TaskType)])) + list(_PROMPT_TYPES)
    for name, prompt in tree.items():
        check_prompt(prompt, f"--prompts: {file}: {name}")
        if name not in known:
            raise ValueError(
                f"--prompts: {file}: got the name {name}, expected query, document, a type of task (STS ...) "
                f"or one of the tasks, alone or with -query or -document{did_you_mean(name, known)}"
            )
    return tree


def check_template(template: str | None) -> None:
    """Refuse a template without its place.

    Raises:
        ValueError: it has no {instruction}, or an escape that would stand there as it is.
    """
    check_escapes(template or "", "--instruction-template")
    if template is not None and PLACE_OF_INSTRUCTION not in template:
        raise ValueError(f"--instruction-template: got {template!r}, expected a text with {PLACE_OF_INSTRUCTION}")


def _with_roles(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        yield from (name, *(f"{name}-{role}" for role in _PROMPT_TYPES))
