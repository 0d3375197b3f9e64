"""What several test modules share: fixtures, Triton's interpreter where there is no GPU, the split over workers."""

import os
from contextlib import suppress

import pytest
import torch

if not torch.cuda.is_available():  # before transformers imports Triton
    os.environ.setdefault("TRITON_INTERPRET", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    num_workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_workers))

from tests.tiny import make_data, make_model, make_recipe

if os.environ.get("TRITON_INTERPRET") == "1":
    with suppress(ImportError):  # Triton is for Linux only
        import tests.interpreter  # noqa: F401


def pytest_itemcollected(item):
    """A module whose tests start processes shares runs among them: one of pytest's workers gets the whole module."""
    if item.get_closest_marker("distributed"):
        item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.fixture
def two_threads():
    """With one thread every order of summation is fixed, and a test of equal bits would prove nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of its own for a test module: model/, data of all kinds, and tiny.yaml over both."""
    folder = tmp_path_factory.mktemp("tiny")
    make_model(folder / "model")
    make_data(folder)
    make_recipe(folder)
    return folder
