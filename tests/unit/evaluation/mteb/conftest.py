"""A tiny model with prompts, and what mteb itself reports for it through sentence-transformers."""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = [] if find_spec("mteb") else ["test_*"]
TASKS = Path(__file__).with_name("local_tasks.py")
PROMPTS = {"query": "aral ", "document": "btin ", "STS": "cmok ", "Classification": "dsul "}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # they read the variable when imported
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "HARNESS_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), PROMPTS)


def write_model(folder: Path, prompts: dict[str, str]) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    from tests.tiny import make_model

    modules = [Transformer(str(make_model(folder / "backbone")), max_seq_length=24), Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save_pretrained(str(folder / "st"))
    return folder / "st"


def mtebs_own(folder: Path, dim: int | None = None) -> dict[str, dict[str, Any]]:
    """Task → the scores of `mteb.evaluate` with the folder in sentence-transformers."""
    import mteb
    from sentence_transformers import SentenceTransformer

    from harness.evaluation.mteb.select import Selection, selected_tasks

    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = SentenceTransformer(str(folder), device="cpu", truncate_dim=dim)
        found = mteb.evaluate(loaded, selected_tasks(Selection(task_file=TASKS)), cache=None, show_progress_bar=False)
    return {result.task_name: numbers(result.scores["test"][0]) for result in found.task_results}


def numbers(scores: Any) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, float) and value == value}


@pytest.fixture(scope="session")
def truth(model: Path) -> dict[str, dict[str, Any]]:
    return mtebs_own(model)
