"""Tests of this folder install older versions of libraries: they run only if asked for by marker."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "readers" in str(config.getoption("-m")):
        return
    for item in items:
        if item.get_closest_marker("readers"):
            item.add_marker(pytest.mark.skip(reason="on demand: pytest -m readers tests/readers"))
