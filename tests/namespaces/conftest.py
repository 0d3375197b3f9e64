"""Tests of this folder start launchers over several hosts and take minutes: they run only if asked for by marker."""

from __future__ import annotations

import pytest

from tests.namespaces.hosts import missing


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = "namespaces" in str(config.getoption("-m"))
    reason = missing() if asked else "on demand: pytest -m namespaces tests/namespaces"
    for item in items:
        if reason is not None and item.get_closest_marker("namespaces"):
            item.add_marker(pytest.mark.skip(reason=reason))
