"""A fixture with the docstrings of two small packages."""

from __future__ import annotations

import pytest

from harness.demo.docstrings import Docstring, read_docstrings
from tests.unit.demo.entries import SMALL_PACKAGES


@pytest.fixture(scope="module")
def entries() -> list[Docstring]:
    return [entry for package, name in SMALL_PACKAGES.items() for entry in read_docstrings(package, name)]
