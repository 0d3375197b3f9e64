"""A run folder is touched only by its own run, and a trained model leaves it only for the next one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.run.folder import RunFolder
from harness.run.resuming.recognise import model_folder
from tests.unit.run.test_folder import run_folder, save


def write_model(folder: RunFolder, step: int = 6) -> None:
    """What a finished run has left, without its numbers."""
    folder.prepare(trained_steps=0)
    folder.model.mkdir(parents=True)
    for name in ("modules.json", "model.safetensors"):
        (folder.model / name).write_text("{}")
    (folder.path / "run.json").write_text(json.dumps({"finished": True, "steps": step}))


def test_a_folder_whose_recipe_is_another_programs_is_foreign(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "checkpoint.resume=never")
    folder.path.mkdir()
    (folder.path / "recipe.yaml").write_text("package: {name: conda-recipe}\n")
    assert not folder.is_finished()
    with pytest.raises(ValueError, match=r"which holds recipe.yaml and is not a run folder"), folder.claimed():
        pass


def test_a_folder_in_which_a_user_keeps_a_recipe_of_his_own_is_foreign(tmp_path: Path) -> None:
    """With that folder as output, the run would write its resolved recipe over the user's, comments and all."""
    folder = run_folder(tmp_path, "checkpoint.resume=never")
    folder.path.mkdir()
    (folder.path / "recipe.yaml").write_text((tmp_path / "tiny.yaml").read_text())
    with pytest.raises(ValueError, match=r"which holds recipe.yaml and is not a run folder"), folder.claimed():
        pass


def test_a_run_folder_is_claimed_again_and_a_cache_in_it_is_no_content(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, f"data.cache={tmp_path / 'run' / 'cache'}")
    (tmp_path / "run" / "cache").mkdir(parents=True)
    with folder.claimed():
        folder.prepare(trained_steps=0)
    with folder.claimed():
        pass
    assert sorted(path.name for path in folder.path.iterdir()) == ["cache", "recipe.yaml"]


def test_a_fresh_start_removes_its_own_checkpoints_and_rankings_and_nothing_beside_them(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "checkpoint.resume=never")
    write_model(folder)
    save(folder, 2)
    foreign = [folder.path / name for name in ("checkpoints/notes.txt", "checkpoints/step-best/x", "banks/mine/x")]
    for file in (*foreign, folder.path / "banks" / "step-3" / "faq" / "bank.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    folder.prepare(trained_steps=0)
    assert all(file.is_file() for file in foreign)
    assert (folder.model / "model.safetensors").is_file()
    assert [path.name for path in (folder.path / "checkpoints").iterdir() if path.name.startswith("step-0")] == []
    assert [path.name for path in (folder.path / "banks").iterdir()] == ["mine"]


def test_a_finished_run_without_checkpoints_is_not_trained_again_unasked(tmp_path: Path) -> None:
    write_model(run_folder(tmp_path))
    with pytest.raises(ValueError, match="a run of 6 steps has finished, but no checkpoint to continue from; set che"):
        run_folder(tmp_path, "training.steps=8").newest_checkpoint()
    assert run_folder(tmp_path, "training.steps=8", "checkpoint.resume=never").newest_checkpoint() is None


def test_steps_that_are_trained_again_for_want_of_a_checkpoint_are_said(tmp_path: Path, capsys) -> None:
    folder = run_folder(tmp_path)
    folder.prepare(trained_steps=0)
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert folder.newest_checkpoint() is None
    assert "has recorded 1 steps, but has no checkpoint: they are trained again" in capsys.readouterr().err


def test_a_finished_run_whose_model_is_gone_is_not_finished(tmp_path: Path, capsys) -> None:
    folder = run_folder(tmp_path)
    write_model(folder)
    assert folder.is_finished()
    (folder.model / "model.safetensors").unlink()
    assert not folder.is_finished()
    assert "is finished, but" in capsys.readouterr().out


def test_while_a_run_is_trained_further_its_newest_checkpoint_is_its_model(tmp_path: Path, capsys) -> None:
    folder = run_folder(tmp_path)
    write_model(folder)
    assert model_folder(str(folder.path)) == str(folder.model)
    (folder.path / "run.json").write_text('{"finished": false}')
    assert model_folder(str(folder.path)) == str(folder.model)
    assert "what an earlier run has left" in capsys.readouterr().err
    save(folder, 8)
    assert model_folder(str(folder.path)) == str(folder.checkpoints.folder / "step-00000008" / "model")
