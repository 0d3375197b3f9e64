"""What a user is told about prompts: what stands before which text, and what may not be meant."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from harness.prompts.model_prompts import QUERY_NAMES_OF_KIND, ModelPrompts, PromptChoice, has_pairs
from harness.prompts.placeholders import what_stays_in_place
from harness.prompts.roles import Prompts, in_words
from harness.prompts.run_prompts import TaskPrompts


def task_lines(tasks: Sequence[TaskPrompts], from_folder: Collection[str]) -> list[str]:
    """A line per task; none if no task has a prompt. from_folder: the tasks that got prompts of the model's folder."""
    by_role_of_task = {task.name: task.prompts.by_role(pairs=has_pairs(task.kind)) for task in tasks}
    if not any(any(by_role.values()) for by_role in by_role_of_task.values()):
        return []
    whose = " (the model's)"
    return [
        f"task {name}: {in_words(by_role)}{whose if name in from_folder else ''}"
        for name, by_role in by_role_of_task.items()
    ]


def lines_of_data(kind_of_data: Mapping[str, str], prompts_of_data: Mapping[str, Prompts]) -> list[str]:
    """A line per group of data sets with equal prompts: `evaluation: query prompt "q: ", no document prompt (faq)`."""
    groups: dict[str, list[str]] = {}
    for name, prompts in prompts_of_data.items():
        groups.setdefault(in_words(prompts.by_role(pairs=has_pairs(kind_of_data[name]))), []).append(name)
    return [f"evaluation: {words} ({', '.join(names)})" for words, names in groups.items()]


def family_warning(where: str, model: str, hint: tuple[str, str, str] | None, way_out: str) -> list[str]:
    """That a model without prompts looks like one that was trained with some. way_out: with {query} and {document}."""
    if hint is None:
        return []
    family, query, document = hint
    texts = {"query": json.dumps(query, ensure_ascii=False), "document": json.dumps(document, ensure_ascii=False)}
    return [
        f"{where}: {model} looks like a model of the family {family}, which was trained with {texts['query']} before "
        f"queries and {texts['document'] if document else 'nothing'} before documents, but its folder stores no "
        f"prompts, so none is used; {way_out.format(**texts)}"
    ]


def unused_warning(
    model: ModelPrompts, kind_of_data: Mapping[str, str], prompts_of_data: Mapping[str, Prompts], way_out: str
) -> list[str]:
    """That data got no prompt although the model has prompts, under names that say nothing to this kind of data."""
    unused = {name: model.unused_names(kind, prompts_of_data[name]) for name, kind in kind_of_data.items()}
    without = [name for name, names in unused.items() if names]
    if not without:
        return []
    names = ", ".join(unused[without[0]])
    default = (
        f" ({model.default_name} is the default of plain encode)" if model.default_name in unused[without[0]] else ""
    )
    return [
        f"prompts: {', '.join(without)}: no prompt is used, but the model has prompts called {names}{default}; "
        f"{way_out}"
    ]


def passage_warning(model: ModelPrompts) -> list[str]:
    """That sentence-transformers 6.2 does not use the document prompt of a folder that calls it `passage` or `corpus`.

    `encode_document` looks for `document`, `passage` and `corpus`, but a loaded model always has `document`, if need be
    as an empty text.
    """
    document = model.of_kind("retrieval").document
    if not document or "document" in model.named:
        return []
    name = next(name for name, text in model.named.items() if text == document)
    return [
        f"prompts: documents get the model's prompt {name}; encode_document of sentence-transformers 6.2 would put "
        "nothing before them, because it takes only the name document from a folder"
    ]


def template_warning(kind_of_data: Mapping[str, str], prompts_of_data: Mapping[str, Prompts]) -> list[str]:
    """That a prompt which a model stores has a place for a text, or an escape: it is what others put there, too."""
    texts = {
        prompt: what_stays_in_place(prompt)
        for name, prompts in prompts_of_data.items()
        for prompt in prompts.by_role(pairs=has_pairs(kind_of_data[name])).values()
    }
    return [
        f"prompts: the model stores {json.dumps(prompt, ensure_ascii=False)}, whose {place} stands before every text "
        "as it is; set another prompt if that is not meant"
        for prompt, place in texts.items()
        if place
    ]


def command_warnings(
    model: ModelPrompts,
    choice: PromptChoice,
    kind_of_data: Mapping[str, str],
    prompts_of_data: Mapping[str, Prompts],
) -> list[str]:
    """The warnings of a command that embeds data with a model."""
    if choice.is_given:
        return []
    options = " ".join(f"{option} ..." for option in choice.options[:2])
    pairs = any(kind in QUERY_NAMES_OF_KIND for kind in kind_of_data.values())
    unused = unused_warning(
        model, kind_of_data, prompts_of_data, f"choose one with {choice.options[2]} NAME, or {options}"
    )
    stored = template_warning(kind_of_data, prompts_of_data)
    return [*unused, *stored, *(passage_warning(model) if pairs else [])]
