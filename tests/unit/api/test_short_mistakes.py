"""What a notebook prints after a mistake in an argument."""

from __future__ import annotations

import traceback

import pytest

from harness import Recipe, evaluate, train
from harness.api.short_mistakes import with_short_mistakes

KEYS = {
    "name": "parts",
    "model": {"name_or_path": "./nothing-here"},
    "tasks": [{"name": "questions", "kind": "retrieval", "path": [{"query": "a", "positive": "b"}], "quota": 1}],
    "training": {"steps": 1},
}

MISTAKES = {
    "unknown key": lambda: Recipe(**{**KEYS, "training": {"step": 1}}),
    "dictionary": lambda: Recipe.from_dict({**KEYS, "loss": {"temperature": -1}}),
    "change": lambda: Recipe.from_file("demo", {"training.step": 1}),
    "no such model": lambda: train(KEYS),
    "nothing to evaluate": lambda: evaluate("./nothing-here", {"pairs": [{"text1": "a"}]}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_shows_the_callers_line_and_its_own(mistake, monkeypatch, tmp_path):
    """A notebook prints ten lines for each frame: what to do stood below hundreds, and below causes of libraries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DEBUG", raising=False)
    with pytest.raises(ValueError, match=": ") as caught:
        MISTAKES[mistake]()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.name for frame in frames[-2:]] == ["<lambda>", "checked"]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_every_frame_is_shown_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("HARNESS_DEBUG", "1")
    with pytest.raises(ValueError, match="did you mean steps") as caught:
        MISTAKES["unknown key"]()
    assert "check_tree" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_an_error_of_a_callback_keeps_its_frames(monkeypatch):
    monkeypatch.delenv("HARNESS_DEBUG", raising=False)

    def callback():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        with_short_mistakes(lambda: callback())()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "callback"


def test_help_and_editors_see_the_arguments_of_the_call():
    assert train.__doc__.startswith("Train, evaluate and export")
    assert train.__wrapped__.__annotations__["ranks"] == "int | None"
