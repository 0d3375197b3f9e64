"""Fixtures that open tasks from rows written by a test."""

import pytest

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from harness.data.config import NegativesConfig, PromptsConfig, TaskConfig
from harness.data.data_config import DataConfig
from harness.data.plan.task import Task
from harness.data.table.index import check_scores, open_task
from harness.data.table.tokenisation import Tokeniser
from tests.tiny import make_data, make_model, write_jsonl


@pytest.fixture(scope="module")
def tokeniser(tmp_path_factory):
    return Tokeniser(str(make_model(tmp_path_factory.mktemp("model"))))


@pytest.fixture
def open_(tmp_path, tokeniser):
    def open_(kind, rows_or_path, name="task", max_length=24, prompts=None, **settings):
        path = rows_or_path
        if isinstance(rows_or_path, list):
            path = write_jsonl(tmp_path / f"{name}.jsonl", rows_or_path)
        settings = {"quota": None if "share" in settings else 4, **settings}
        config = TaskConfig(name=name, kind=kind, path=str(path), prompts=prompts or PromptsConfig(), **settings)
        data = open_task(
            config, str(path), DataConfig(cache=str(tmp_path / "cache")), tokeniser, max_length, max_length
        )
        check_scores(config, data)
        bank = BankHistory(NegativeBank(data.num_rows, ListedCandidates(data), config.negatives.per_query))
        return Task(config, data, bank if kind == "retrieval" else None, max_length, max_length)

    return open_


@pytest.fixture
def three_tasks(open_, tmp_path):
    folder = make_data(tmp_path / "data")
    own = NegativesConfig(scope="own", per_query=3)
    return [
        open_("retrieval", folder / "retrieval.jsonl", "faq", quota=8, negatives=NegativesConfig(per_query=2)),
        open_("sts", folder / "sts" / "train.jsonl", "similar", quota=6),
        open_("classification", folder / "intents" / "train.jsonl", "intents", quota=4, negatives=own),
    ]
