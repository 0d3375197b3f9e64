"""The prompt before a text depends on its role, its row, and the source of the prompts."""

from __future__ import annotations

import pytest

from harness.prompts import NO_PROMPTS, Prompts, prompts_of_model_folder, prompts_of_recipe

RETRIEVAL, STS, CLASSES = ("retrieval", "q: ", "d: "), ("sts", "s: ", ""), ("classification", "s: ", "")


def test_a_rows_own_prompt_stands_before_its_query_and_before_no_document() -> None:
    prompts = Prompts("q: ", "d: ", "s: ")
    assert [prompts.before(role) for role in ("query", "document", "sentence")] == ["q: ", "d: ", "s: "]
    assert prompts.before("query", "own: ") == "own: "
    assert prompts.before("query", "") == ""  # an empty prompt means that this query has none
    assert prompts.before("document", "own: ") == "d: "


def test_a_sentence_without_a_prompt_of_its_own_takes_the_querys() -> None:
    assert Prompts("q: ").before("sentence") == "q: "
    assert Prompts("q: ", sentence="").before("sentence") == ""


def test_a_recipes_tasks_must_agree_unless_its_evaluation_section_says_otherwise() -> None:
    def of(*tasks: tuple, query: str = "", document: str = "") -> Prompts:
        return prompts_of_recipe(tasks, query_prompt=query, document_prompt=document)

    assert of(RETRIEVAL, STS, CLASSES) == Prompts("q: ", "d: ", "s: ")
    assert of(RETRIEVAL, ("retrieval", "q: ", "")) == Prompts("", "", "")
    assert of(RETRIEVAL, STS, ("sts", "other: ", "")) == Prompts("q: ", "d: ", "")
    assert of(RETRIEVAL, query="e: ") == Prompts("e: ", "d: ", "")
    assert of(RETRIEVAL, ("retrieval", "q: ", ""), document="e: ") == Prompts("", "e: ", "")


@pytest.mark.parametrize("name", ["document", "passage"])
def test_a_model_folder_calls_a_document_by_either_name(name: str) -> None:
    assert prompts_of_model_folder({"query": "q: ", name: "d: "}) == Prompts("q: ", "d: ", "")


def test_what_is_stored_reads_back_as_the_same_prompts() -> None:
    assert NO_PROMPTS.to_store() == {}
    prompts = Prompts("q: ", "", "s: ")
    assert prompts.to_store() == {"query": "q: ", "sentence": "s: "}
    assert prompts_of_model_folder(prompts.to_store()) == prompts
