"""The prompts of a run's model where its tasks have different ones."""

from __future__ import annotations

from harness.prompts import ModelPrompts, Prompts
from harness.prompts.run_prompts import TaskPrompts, prompts_of_run


def test_where_tasks_differ_the_models_own_prompt_stays() -> None:
    start = ModelPrompts({"query": "q: ", "document": "d: "})
    tasks = [TaskPrompts(name, "retrieval", Prompts(text, "d: ")) for name, text in (("a", "x: "), ("b", "y: "))]
    stored = prompts_of_run(tasks, start)
    assert (stored.named["query"], stored.named["a"], stored.named["b"]) == ("q: ", "x: ", "y: ")
    assert stored.of_kind("retrieval") == Prompts("q: ", "d: ", stored.of_kind("retrieval").sentence)
