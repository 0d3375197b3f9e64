"""What several test modules share: fixtures, Triton's interpreter where there is no GPU, the split over workers."""

import os
from contextlib import suppress

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():  # before transformers imports Triton
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tests.tiny import make_data, make_model, make_recipe

hypothesis.settings.register_profile("tests", deadline=None)  # an example that a busy machine delays is no failure
hypothesis.settings.load_profile("tests")

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    num_workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_workers))

if os.environ.get("TRITON_INTERPRET") == "1":
    with suppress(ImportError):  # Triton is for Linux only
        import tests.interpreter  # noqa: F401


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """Tests go one by one to the next free worker; a module whose tests share the runs of ranks goes as a whole."""
    from xdist.scheduler import LoadScopeScheduling

    class ModulesWithRuns(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            module = nodeid.split("::")[0]
            return module if module.startswith(("tests/distributed/", "tests/integration/")) else nodeid

    return ModulesWithRuns(config, log)


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
