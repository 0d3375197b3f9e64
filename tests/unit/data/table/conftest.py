"""A fixture that opens a source written by a test, with default settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.data.config import NegativesConfig, TaskConfig
from harness.data.data_config import DataConfig
from harness.data.table.index import TaskData, open_task
from harness.data.table.tokenisation import Tokeniser
from tests.unit.data.table.sources import DOCUMENT_LENGTH, QUERY_LENGTH, Open


@pytest.fixture
def open_data(tmp_path: Path, tokeniser: Tokeniser) -> Open:
    def open_data(
        path: Path | str | tuple[str, ...], kind: Any = "retrieval", on_bad_row: Any = "stop", **changes: Any
    ) -> TaskData:
        lengths = {"query_max_length": QUERY_LENGTH, "document_max_length": DOCUMENT_LENGTH}
        lengths = {key: changes.pop(key, value) for key, value in lengths.items()}
        progress, tokens = changes.pop("progress", None), changes.pop("tokeniser", tokeniser)
        if kind == "classification":
            changes["negatives"] = NegativesConfig(per_query=1)
        place = path if isinstance(path, tuple) else str(path)
        task = TaskConfig(name="t", kind=kind, path=place, quota=1, **changes)
        data = DataConfig(cache=str(tmp_path / "cache"), on_bad_row=on_bad_row)
        return open_task(task, place, data, tokens, **lengths, progress=progress)

    return open_data
