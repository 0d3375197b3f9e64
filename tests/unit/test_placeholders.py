"""A prompt holds no place for a text: it stands before it as it is."""

from __future__ import annotations

import pytest

from harness.prompts import ModelPrompts, PromptChoice


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
