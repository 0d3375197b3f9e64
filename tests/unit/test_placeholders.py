"""A prompt holds no place for a text: it stands before it as it is."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.config import dump_tree, load_recipe
from harness.mining.config import GuidePromptsConfig
from harness.prompts import ModelPrompts, PromptChoice, Prompts
from harness.prompts.notes import template_warning
from harness.run.folder import RunFolder
from harness.run.resuming.changes import changed_settings


@pytest.mark.parametrize(
    ("prompt", "remedy"),
    [
        ("Instruct: Find passages\nQuery: {query}", r'write "Instruct: Find passages\\nQuery: "'),
        ("{}{}", "write the words that stand before every text"),
        ("Passage: {text} Summary:", "what stands after a text cannot be exported"),
        ("Instruct: {task_description}\nQuery: ", "write the words that stand before every text"),
    ],
)
def test_a_template_of_another_tool_is_refused_and_not_put_before_texts_as_it_is(prompt, remedy):
    """E5-Mistral, Qwen3-Embedding and FlagEmbedding write their instructions as templates."""
    with pytest.raises(ValueError, match=r"^--query-prompt: got the place") as caught:
        ModelPrompts().chosen("retrieval", PromptChoice(query=prompt))
    assert remedy.replace("\\\\", "\\") in str(caught.value)


def test_braces_that_are_no_place_for_a_text_stay():
    assert ModelPrompts().chosen("retrieval", PromptChoice(query="{json} {a: 1} ")).query == "{json} {a: 1} "


@pytest.mark.parametrize("escape", ["\\n", "\\t", "\\r"])
def test_a_backslash_and_a_letter_are_refused_where_a_line_break_is_meant(escape):
    """A shell's quotes and YAML's single ones keep both characters, and every text would begin with them."""
    with pytest.raises(ValueError, match=r"^--document-prompt: got a backslash and the letter . as two characters"):
        ModelPrompts().chosen("retrieval", PromptChoice(document=f"Instruct: Find{escape}Query: "))


def test_line_breaks_and_other_backslashes_stay():
    prompt = "C:\\data \\alpha\nQuery:\t"
    assert ModelPrompts().chosen("retrieval", PromptChoice(query=prompt)).query == prompt


def test_the_sentence_prompt_of_a_guide_holds_no_place_either():
    with pytest.raises(ValidationError, match=r"sentence: got the place \{text\} in a prompt"):
        GuidePromptsConfig(sentence="Classify: {text}")


def test_prompts_that_a_folder_stores_are_said_and_a_run_that_holds_them_can_be_read(tmp_path):
    """What stands in a model's folder is put before texts by every other library, too, so it stays and is told."""
    stored = "Instruct: Find\\nQuery: {query}"
    (line,) = template_warning({"faq": "retrieval"}, {"faq": Prompts(stored, "passage: ")})
    assert line.startswith('prompts: the model stores "Instruct: Find\\\\nQuery: {query}", whose {query} stands before')
    recipe = load_recipe("finetune_small").config
    tree = recipe.model_dump(mode="json")
    tree["model"]["prompts"] = {"query": stored}
    tree["tasks"][0]["prompts"] = {"query": stored, "document": ""}
    (tmp_path / "recipe.yaml").write_text(dump_tree(tree))
    with pytest.raises(ValueError, match=r"model\.prompts\.query: got a backslash"):
        load_recipe(str(tmp_path / "recipe.yaml"))
    run = RunFolder.containing(tmp_path)
    assert run.config.tasks[0].prompts.query == stored
    assert changed_settings(tmp_path / "recipe.yaml", run.config) == []
