"""Before a command imports torch, it sets the accelerator and PATH and silences libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.settings.environment import has_gpu, prepare_environment

ROOT = Path(harness.__file__).parent.parent


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)


def test_without_a_gpu_the_environment_is_set_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setenv("PATH", f"/first{os.pathsep}{Path(sys.executable).parent}")
    assert not has_gpu()
    prepare_environment(verbose=True)
    assert os.environ["DS_ACCELERATOR"] == "cpu"
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/first"]


def test_libraries_are_silent_but_for_errors_and_our_own_warnings_stay() -> None:
    code = """
import logging, warnings
from harness.settings.environment import prepare_environment
prepare_environment()
logger = logging.getLogger("DeepSpeed")
logger.setLevel(logging.INFO)  # what the library does when it is imported
logger.warning("their log line")
logger.error("their error")
warnings.warn_explicit("theirs", FutureWarning, "torch/x.py", 1, module="torch.x")
warnings.warn_explicit("ours", UserWarning, "harness/x.py", 1, module="harness.engine.x")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["their error", "warning: ours"]


def test_bars_of_libraries_that_are_imported_already_are_off_inside_and_on_again_after() -> None:
    """The variables that switch them off are read at import only: in a notebook a training filled its cell."""
    code = """
import datasets.utils as sets, transformers.utils.logging as models
from harness.settings.environment import prepared_environment
def shown():
    return models.is_progress_bar_enabled(), not sets.are_progress_bars_disabled()
seen = [shown()]
with prepared_environment():
    seen.append(shown())
seen.append(shown())
with prepared_environment(verbose=True):
    seen.append(shown())
print([all(one) if all(one) or not any(one) else one for one in seen])
"""
    clean = {name: value for name, value in os.environ.items() if "PROGRESS_BARS" not in name}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env=clean)
    assert done.stdout.splitlines() == ["[True, False, True, True]"]
