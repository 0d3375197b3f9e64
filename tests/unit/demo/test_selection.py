"""The selection of docstrings for training, for test, and of those left out."""

from __future__ import annotations

import pytest

from harness.demo.docstrings import Docstring
from harness.demo.selection import deduplicate, hold_out_modules, is_usable
from tests.unit.demo.entries import SMALL_PACKAGES, docstring


def test_no_module_stands_in_training_and_test(entries: list[Docstring]) -> None:
    train, test = hold_out_modules(entries, 300)
    assert {e.module for e in train}.isdisjoint(e.module for e in test)
    assert len(train) + len(test) == len(entries)
    assert 250 <= len(test) <= 300
    assert {e.package for e in test} == set(SMALL_PACKAGES)


def test_copies_and_near_copies_count_once() -> None:
    original = docstring()
    same_query = docstring(name="b", rest="Something else entirely, written for another thing that shares the summary.")
    near_copy = docstring(name="c", summary="Enumerate all vertices.", rest=original.rest + " Also true for forests.")
    other = docstring(name="d", summary="Count the edges.", rest="An edge that joins a vertex to itself is counted.")
    assert deduplicate([original, same_query, near_copy, other]) == [original, other]


@pytest.mark.parametrize(
    "changed",
    [
        {"summary": "Return it."},
        {"summary": "Returns: "},
        {"rest": "Too short."},
        {"rest": docstring().rest + " List the vertices of a tree, in order."},
        {"rest": "%(before_notes)s " + docstring().rest},
    ],
    ids=["short query", "header only", "short rest", "rest repeats the query", "unfilled template"],
)
def test_junk_is_left_out(changed: dict[str, str]) -> None:
    assert is_usable(docstring())
    assert not is_usable(docstring(**changed))
