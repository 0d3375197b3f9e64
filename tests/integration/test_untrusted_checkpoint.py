"""A checkpoint is data: what another person put into it is not run when the run continues."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from harness.engine.deepspeed_files.read_write import values_only, weights_only
from harness.engine.resharding.whole import WholeState
from harness.files import sizes_and_hashes
from tests.ranks import run_command

pytestmark = pytest.mark.distributed


class Calls:
    """Makes the folder `marker` when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def rewrite(checkpoint: Path, name: str, key: str, value: object) -> None:
    """Put a value into a file of DeepSpeed, and bring the manifest up to date, as anybody who can write there could."""
    file = next((checkpoint / "deepspeed").rglob(name))
    content = torch.load(file, weights_only=False)
    torch.save({**content, key: value}, file)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | sizes_and_hashes(checkpoint, [file])))


@pytest.mark.parametrize("name", ["*model_states.pt", "*optim_states.pt"])
def test_a_checkpoint_that_holds_code_is_refused_in_one_line_and_nothing_of_it_is_run(folder, tmp_path, name):
    output, marker = tmp_path / "run", tmp_path / "was here"
    train = ("train", str(folder / "tiny.yaml"), "--set", f"output={output}", "--set", "evaluation.every=0")
    assert run_command(*train).returncode == 0
    checkpoint = output / "checkpoints" / "step-00000006"
    rewrite(checkpoint, name, "extra", Calls(marker))
    ended = run_command(*train, "--set", "training.steps=7")
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if "got a file" in line]
    assert "with more than weights and numbers" in line
    assert "mkdir" in line
    assert not marker.exists()


class GotByName:
    """Is stored as Python 3.11.2 stores a member of an enum: the call getattr(owner, name)."""

    def __init__(self, owner: object, name: str) -> None:
        self.stored = owner, name

    def __reduce__(self):
        return getattr, self.stored


def test_a_zero_stage_that_an_older_python_has_stored_is_read(tmp_path):
    torch.save({"stage": GotByName(ZeroStageEnum, "weights")}, tmp_path / "file.pt")
    with weights_only():
        assert torch.load(tmp_path / "file.pt") == {"stage": ZeroStageEnum.weights}


@pytest.mark.parametrize(("owner", "name"), [(ZeroStageEnum, "mro"), (fragment_address, "__init__"), ("text", "upper")])
def test_nothing_else_is_got_by_its_name(tmp_path, owner, name):
    torch.save({"stage": GotByName(owner, name)}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=r"more than weights and numbers \(builtins.getattr\)"), values_only(tmp_path):
        torch.load(tmp_path / "file.pt")


def test_torch_loads_values_only_in_the_context_whatever_the_caller_asks_for(tmp_path):
    marker, file = tmp_path / "was here", tmp_path / "file.pt"
    torch.save({"a": Calls(marker)}, file)
    with weights_only(), pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=False)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()


def test_neither_is_code_run_when_the_state_is_divided_anew_for_other_ranks(tmp_path):
    marker = tmp_path / "was here"
    torch.save({"module": Calls(marker)}, tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(ValueError, match=r"with more than weights and numbers .*mkdir.*; nothing of it was run"):
        WholeState(tmp_path, 0, [])
    assert not marker.exists()


def test_an_environment_that_asks_torch_for_all_values_changes_nothing(tmp_path, monkeypatch):
    """Set by many for old checkpoints of their own; torch refuses to load anything with both variables."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"a": torch.ones(1)}, tmp_path / "file.pt")
    with weights_only():
        assert torch.load(tmp_path / "file.pt", weights_only=False)["a"] == 1
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
