"""The contents of the rows of the demo's data sets."""

from __future__ import annotations

from collections import Counter

from harness.demo.data_sets import classification_texts, sts_pairs
from harness.demo.docstrings import Docstring
from harness.demo.selection import deduplicate, is_usable
from tests.unit.demo.entries import docstring


def test_grades_are_balanced_and_say_how_close_two_sentences_stand(entries: list[Docstring]) -> None:
    unique = deduplicate([e for e in entries if is_usable(e)])
    first = {sentence: e for e in reversed(unique) for sentence in e.description}
    pairs = sts_pairs(unique, 200)
    assert Counter(row["score"] for row in pairs) == {0.0: 40, 1.0: 40, 2.0: 40, 3.0: 40, 4.0: 40}
    for row in pairs:
        a, b = first[row["text1"]], first[row["text2"]]
        if a.package != b.package:
            grade = 0
        elif a.module != b.module:
            grade = 1
            assert a.module.rpartition("/")[0] == b.module.rpartition("/")[0]
        elif a.owner != b.owner:
            grade = 2
        else:
            grade = 4 if a.name == b.name else 3
        assert row["score"] == grade
        assert row["text1"] != row["text2"]


def test_classification_texts_do_not_name_a_package(entries: list[Docstring]) -> None:
    named = docstring(summary="Convert a NetworkX graph to a table.", description=("Convert a NetworkX graph.",))
    texts = classification_texts([*entries, named], 400)
    assert Counter(row["label"] for row in texts) == {"networkx": 200, "huggingface_hub": 200}
    for row in texts:
        assert "networkx" not in row["text"].lower()
        assert "hugging" not in row["text"].lower()


def test_a_small_package_leaves_its_room_to_the_others() -> None:
    few = [docstring(package="numpy", summary=f"n{i}", description=(f"text {i}",)) for i in range(3)]
    many = [docstring(package="scipy", summary=f"s{i}", description=(f"other {i}",)) for i in range(30)]
    counts = Counter(row["label"] for row in classification_texts(few + many, 20))
    assert counts == {"numpy": 3, "scipy": 17}
