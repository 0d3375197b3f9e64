"""Only complete checkpoints are used."""

import json
from pathlib import Path

import pytest

from harness.engine.checkpoint import Checkpoints, find_damage, kept_states, read_state, resolve_pointer


class FakeEngine:
    """Writes a folder with a file, as DeepSpeed would."""

    stage = 1

    def save(self, folder: Path) -> None:
        (folder / "deepspeed").mkdir()
        (folder / "deepspeed" / "weights.pt").write_bytes(b"weights" * 100)


def write_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"model")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path, warnings):
    return Checkpoints(tmp_path / "checkpoints", keep=2, warn=warnings.append)


def save(checkpoints, *steps, best=()):
    for step in steps:
        checkpoints.save(FakeEngine(), step, {"seed": 3}, write_model, is_best=step in best)


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.glob("step-*"))


def test_the_newest_of_several_is_taken(checkpoints):
    save(checkpoints, 5, 10)
    newest = checkpoints.newest_whole()
    assert newest is not None
    assert read_state(newest) == {"step": 10, "world_size": 1, "zero_stage": 1, "seed": 3}
    assert (checkpoints.folder / "latest").read_text() == "step-00000010\n"


def test_only_the_last_k_and_the_best_are_kept(checkpoints):
    save(checkpoints, 1, 2, 3, 4, 5, best=(2,))
    assert names(checkpoints) == ["step-00000002", "step-00000004", "step-00000005"]
    assert (checkpoints.folder / "best").read_text() == "step-00000002\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "deepspeed/weights.pt").write_bytes(b"weights" * 99),
        lambda folder: (folder / "deepspeed/weights.pt").write_bytes(b"weighty" * 100),
        lambda folder: (folder / "model/model.safetensors").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"deepspeed'),
        lambda folder: (folder / "manifest.json").write_text("{}"),
    ],
    ids=["truncated", "same size, other bytes", "file missing", "no manifest", "torn manifest", "empty manifest"],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(checkpoints, warnings, damage):
    save(checkpoints, 5, 10)
    damage(checkpoints.folder / "step-00000010")
    newest = checkpoints.newest_whole()
    assert newest is not None
    assert newest.name == "step-00000005"
    assert "step-00000010" in warnings[0]
    assert "taking the checkpoint before it" in warnings[0]


def test_a_save_that_was_killed_leaves_nothing_that_counts(checkpoints, warnings):
    """An unfinished checkpoint has a name with a dot: it is never used, and is deleted when the run continues."""
    save(checkpoints, 5)
    aside = checkpoints.folder / ".step-00000010.tmp"
    (aside / "deepspeed").mkdir(parents=True)
    newest = checkpoints.newest_whole()
    assert newest is not None
    assert newest.name == "step-00000005"
    assert warnings == []
    checkpoints.go_on_from(checkpoints.folder / "step-00000005", keep_later=False)
    assert not aside.exists()


def test_damaged_checkpoints_are_put_aside_when_an_earlier_one_is_continued(checkpoints):
    """They are not deleted: they may look damaged because the file system was unavailable for a moment."""
    save(checkpoints, 5, 10, best=(10,))
    checkpoints.go_on_from(checkpoints.folder / "step-00000005", keep_later=False)
    assert names(checkpoints) == ["step-00000005"]
    assert (checkpoints.folder / ".damaged-step-00000010" / "model").is_dir()
    assert (checkpoints.folder / "latest").read_text() == "step-00000005\n"
    assert not (checkpoints.folder / "best").exists()


def test_only_damaged_checkpoints_stop_the_run_instead_of_starting_afresh(checkpoints):
    save(checkpoints, 5)
    (checkpoints.folder / "step-00000005" / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"got only damaged checkpoints.*checkpoint.resume: never"):
        checkpoints.newest_whole()
    assert names(checkpoints) == ["step-00000005"]


def test_latest_and_best_lead_to_their_folders(checkpoints):
    save(checkpoints, 5, 10, best=(5,))
    assert resolve_pointer(checkpoints.folder / "latest") == checkpoints.folder / "step-00000010"
    assert resolve_pointer(checkpoints.folder / "best") == checkpoints.folder / "step-00000005"
    assert resolve_pointer(checkpoints.folder / "step-00000005") == checkpoints.folder / "step-00000005"


def test_the_manifest_names_every_file(checkpoints):
    save(checkpoints, 5)
    folder = checkpoints.folder / "step-00000005"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest) == ["arrays.npz", "deepspeed/weights.pt", "model/model.safetensors", "state.json"]
    assert find_damage(folder) is None


def test_without_checkpoints_there_is_nothing_to_continue(checkpoints):
    assert checkpoints.newest_whole() is None


def test_what_is_kept_aside_is_neither_pruned_for_nor_pointed_to_nor_taken_unasked(checkpoints):
    save(checkpoints, 5)
    checkpoints.save(FakeEngine(), 7, {"rankings": [3]}, write_model, is_aside=True)
    assert (checkpoints.folder / "latest").read_text() == "step-00000005\n"
    assert checkpoints.newest_whole().name == "step-00000005"
    save(checkpoints, 10, 15, 20)
    assert names(checkpoints) == ["step-00000015", "step-00000020"]
    assert find_damage(checkpoints.at(7)) is None
    assert [state["step"] for state in kept_states(checkpoints.folder)] == [15, 20, 7]


def test_a_run_that_goes_back_keeps_later_checkpoints_aside(checkpoints):
    save(checkpoints, 5, 10)
    checkpoints.save(FakeEngine(), 12, {}, write_model, is_aside=True)
    assert checkpoints.go_on_from(checkpoints.at(5), keep_later=True).name == "step-00000005"
    assert names(checkpoints) == ["step-00000005"]
    assert (checkpoints.folder / "latest").read_text() == "step-00000005\n"
    assert checkpoints.go_on_from(checkpoints.at(12), keep_later=True).name == "step-00000012"
    assert sorted(path.name for path in checkpoints.folder.glob("stopped-*")) == ["stopped-step-00000010"]


def test_a_step_without_a_whole_checkpoint_cannot_be_gone_back_to(checkpoints):
    save(checkpoints, 5, 10)
    with pytest.raises(ValueError, match=r"resume: got 7, .* which has step-00000005, step-00000010"):
        checkpoints.at(7)
    (checkpoints.folder / "step-00000005" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"state\.json: got 2 bytes"):
        checkpoints.at(5)


def test_foreign_names_among_checkpoints_are_left_alone_and_named(checkpoints, warnings):
    save(checkpoints, 5)
    for name in ("step-best", "step-7", "step-00000009 (copy)"):
        (checkpoints.folder / name).mkdir()
    (checkpoints.folder / "step-00000099").write_text("a file")
    save(checkpoints, 10, 15)
    assert checkpoints.newest_whole().name == "step-00000015"
    assert len(warnings) == 4
    assert {"step-best", "step-7", "step-00000009 (copy)", "step-00000099"} < set(names(checkpoints))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"step-00000001\n"])
def test_a_pointer_to_nothing_costs_one_line(checkpoints, content):
    save(checkpoints, 5)
    (checkpoints.folder / "best").write_bytes(content)
    with pytest.raises(ValueError, match="no folder beside it"):
        resolve_pointer(checkpoints.folder / "best")
    save(checkpoints, 10, 15)  # nor does it hinder a run
