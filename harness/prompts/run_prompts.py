"""The prompts of a run's model, from those of its tasks and of the model that it starts from.

By role where the tasks agree, by the task's name otherwise. The roles are `query`, `document`, and for sentences mteb's
`STS`, `PairClassification`, `Classification` and `Clustering`. The export stores them, and evaluation reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.prompts.model_prompts import (
    DOCUMENT_NAMES_OF_KIND,
    KNOWN_NAMES,
    OLD_SENTENCE_NAME,
    QUERY_NAMES_OF_KIND,
    SENTENCE_NAME_OF_KIND,
    ModelPrompts,
)
from harness.prompts.roles import Prompts
from harness.types import TaskKind

# The kinds of evaluation data that resemble what a task trains: pairs that are compared, texts that are grouped.
_RESEMBLING = {"sts": ("sts", "pair_classification"), "classification": ("classification", "clustering")}


@dataclass(frozen=True, slots=True)
class TaskPrompts:
    """A task's name, kind, and prompts."""

    name: str
    kind: TaskKind
    prompts: Prompts


def prompts_of_run(
    tasks: Sequence[TaskPrompts], start: ModelPrompts, *, query_prompt: str = "", document_prompt: str = ""
) -> ModelPrompts:
    """The prompts of the model that these tasks train.

    start: the prompts of the model that training starts from; those that no task replaces are kept. query_prompt,
    document_prompt: those of the recipe's `evaluation` section, which settle a difference between tasks; empty if it
    has none.

    Raises:
        ValueError: a task whose prompt has to be stored under its name is called like a role or a kind of data.
    """
    named = dict(start.named)
    retrieval = [task for task in tasks if task.kind == "retrieval"]
    query_agrees = _store_role(named, retrieval, "query", query_prompt)
    document_agrees = _store_role(named, retrieval, "document", document_prompt)
    by_name = [] if query_agrees and document_agrees else retrieval
    for task in by_name:
        if not query_agrees:
            _store_by_name(named, task, task.name, task.prompts.query)
        # Also where the documents agree: mteb would put the prompt called as one of its tasks before documents, too.
        _store_by_name(named, task, f"{task.name}-document", task.prompts.document)
    _store_sentences(named, tasks, start)
    return ModelPrompts(named, start.default_name, {task.name: task.prompts for task in tasks})


def _store_role(named: dict[str, str], retrieval: Sequence[TaskPrompts], role: str, override: str) -> bool:
    """Store the prompt of a role if all retrieval tasks agree on it, or `override`. Returns whether they agree."""
    texts = {task.prompts.query if role == "query" else task.prompts.document for task in retrieval}
    if not override and len(texts) != 1:
        return not texts  # if they differ, what the model has for the role stays
    names_of_kind = QUERY_NAMES_OF_KIND if role == "query" else DOCUMENT_NAMES_OF_KIND
    for names in names_of_kind.values():
        for name in names:
            named.pop(name, None)
    text = override or next(iter(texts))
    if text:  # sentence-transformers puts nothing before queries and documents without a prompt
        named[role] = text
    return len(texts) <= 1


def _store_sentences(named: dict[str, str], tasks: Sequence[TaskPrompts], start: ModelPrompts) -> None:
    """Store the prompts of STS and classification tasks, each for the kinds of data that resemble it.

    If the tasks of one kind disagree, their prompts are stored by name. A kind that is not trained gets the prompt of
    the other if the model that training starts from has none for it.
    """
    sentences = [task for task in tasks if task.kind != "retrieval"]
    if sentences:
        named.pop(OLD_SENTENCE_NAME, None)
    everywhere = {task.prompts.query for task in sentences}
    for kind, resembling in _RESEMBLING.items():
        texts = {task.prompts.query for task in sentences if task.kind == kind}
        for data_kind in resembling:
            name, earlier = SENTENCE_NAME_OF_KIND[data_kind], start.of_kind(data_kind).sentence
            if texts:
                named.pop(name, None)
            if len(texts) == 1:
                (text,) = texts
            elif not texts and len(everywhere) == 1 and not earlier:
                (text,) = everywhere
            else:
                continue
            if text or start.default_name:  # an empty prompt keeps the default from these texts
                named[name] = text
        if len(texts) > 1:
            for task in sentences:
                if task.kind == kind:
                    _store_by_name(named, task, task.name, task.prompts.query)


def _store_by_name(named: dict[str, str], task: TaskPrompts, name: str, text: str) -> None:
    if name in KNOWN_NAMES:
        raise ValueError(
            f"tasks.{task.name}: got a name that means a role or a kind of data in a model's prompts, where this "
            "task's prompt is stored under its name, because tasks differ in theirs; rename the task"
        )
    named[name] = text


def differences(tasks: Sequence[TaskPrompts], *, query_prompt: str = "", document_prompt: str = "") -> list[str]:
    """A line for each group of tasks that differ in a prompt, so that data sets get none of them."""
    groups = [
        ("query", "evaluation.query_prompt", query_prompt, "retrieval"),
        ("document", "evaluation.document_prompt", document_prompt, "retrieval"),
        ("query", "", "", "sts"),
        ("query", "", "", "classification"),
    ]
    lines = []
    for role, knob, settled, kind in groups:
        of_group = [task for task in tasks if task.kind == kind]
        texts = {task.prompts.query if role == "query" else task.prompts.document for task in of_group}
        if len(texts) > 1 and not settled:
            one = of_group[0].name
            set_knob = f"set {knob}, or " if knob else ""
            lines.append(
                f"prompts: {kind} tasks {', '.join(task.name for task in of_group)} differ in their {role} prompt: in "
                f"evaluation and in the exported model {kind} data gets none of them, but "
                "what the model had before; they are stored by task name; "
                f"{set_knob}give evaluation.data as {{path: ..., prompt_name: {one}}}"
            )
    return lines
