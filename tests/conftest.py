"""Fixtures that several test modules share, and Triton's interpreter where there is no GPU."""

import os

import pytest
import torch

if not torch.cuda.is_available():  # before transformers imports Triton
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tests.tiny import make_data, make_model, make_recipe


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
