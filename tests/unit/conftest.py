"""Fixtures that open tasks from rows written by a test, and those of a hub that answers, or never does."""

import socket
import threading
from contextlib import suppress

import pytest

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from harness.data.config import NegativesConfig, PromptsConfig, TaskConfig
from harness.data.data_config import DataConfig
from harness.data.plan.task import Task
from harness.data.table.index import check_scores, open_task
from harness.data.table.tokenisation import Tokeniser
from harness.process.hub import forget_hub
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


@pytest.fixture
def hub_answers(monkeypatch):
    """Every name is there."""
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: None)
    forget_hub()
    yield
    forget_hub()


@pytest.fixture
def silent_hub(monkeypatch):
    """A hub behind a firewall that swallows what is sent: it takes connections, of which this is the list."""
    taken = []
    forget_hub()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)

        def take():
            with suppress(OSError):
                while True:
                    taken.append(server.accept())

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield taken
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
