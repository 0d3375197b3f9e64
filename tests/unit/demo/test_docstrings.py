"""The docstring reader on example source code."""

from __future__ import annotations

import pytest

from harness.demo.docstrings import clean_inline, module_docstrings, parse_docstring

SOURCE = b'''
"""Tools for trees.

More on trees."""
import does_not_exist
class Tree(Base):
    """A tree."""
    def __init__(self, root, *, size = {"a":
            1}, mode="x" * 100):
        pass
    async def walk(self, order: str | None = None, /, *rest, **more) -> list[int]:
        """Walk the tree."""
        def inner():
            """Not seen."""
if True:
    def count(a, *, b):
        """Count the vertices."""
'''


def test_docstrings_are_found_with_their_signature_and_without_importing() -> None:
    found = {entry.name: entry for entry in module_docstrings("p", "p/trees/__init__.py", SOURCE)}
    assert {name: (entry.signature, entry.owner) for name, entry in found.items()} == {
        "": ("module p.trees", ""),
        "Tree": ('class Tree(root, *, size={"a": 1}, mode="x" * 100)', "Tree"),
        "Tree.walk": ("Tree.walk(order=None, *rest, **more)", "Tree"),
        "count": ("count(a, *, b)", "count"),
    }
    assert found[""].summary == "Tools for trees."
    assert found[""].rest == "More on trees."


def test_source_that_does_not_parse_gives_nothing() -> None:
    assert list(module_docstrings("p", "p/a.py", b"def broken(:")) == []
    assert list(module_docstrings("p", "p/a.py", b'"""\xff\xfe"""')) == []


DOCSTRING = """Sort the rows, e.g. of a table. Equal rows
    keep their order.

    Uses :func:`~numpy.sort` [1]_ on ``rows``.

    .. versionadded:: 1.2
       Not before.

    .. note:: It is slow.

    Parameters
    ----------
    rows : list
        The rows::

            code(1)

    Examples
    --------
    >>> sort([2, 1])
    [1, 2]

    References
    ----------
    .. [1] A book.
    """


def test_a_docstring_becomes_summary_description_and_rest_without_markup() -> None:
    parsed = parse_docstring(DOCSTRING)
    assert parsed is not None
    summary, description, rest = parsed
    assert summary == "Sort the rows, e.g. of a table."
    assert description == (summary, "Equal rows keep their order.", "Uses sort on rows.", "It is slow.")
    assert rest == "Equal rows keep their order.\nUses sort on rows.\nIt is slow.\nrows : list The rows:"


def test_google_sections_and_doctests_end_the_description() -> None:
    parsed = parse_docstring("Load it.\n\n>>> load()\n1\n\nArgs:\n    name: The name.\nExample:\n    load(1)\n")
    assert parsed == ("Load it.", ("Load it.",), "name: The name.")
    assert parse_docstring("Args:\n    name: The name.\n") is None


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("see :meth:`a.b` and :ref:`the guide <guide>`", "see a.b and the guide"),
        ("see `docs <https://x.org>`_ or [page](https://x.org/a)", "see docs or page"),
        (":param int size: rows of `table`", "size: rows of table"),
        ("**kwargs of [`Trainer`]", "kwargs of Trainer"),
    ],
)
def test_inline_markup_is_removed(raw: str, clean: str) -> None:
    assert clean_inline(raw) == clean
