"""What a run folder tells about its run. The tests need no model and no data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config import inference_prompts, load_recipe
from harness.engine.checkpoint import Checkpoints
from harness.files import sizes_and_hashes
from harness.run.averaging.choice import Average
from harness.run.averaging.facts import AveragedWeights
from harness.run.export import CardOfEncoder, _model_card
from harness.run.folder import RunFolder
from tests.tiny import make_recipe


def run_folder(tmp_path: Path, *changes: str) -> RunFolder:
    return RunFolder.of(load_recipe(str(make_recipe(tmp_path)), list(changes)).config)


def save(folder: RunFolder, step: int) -> None:
    """Write a checkpoint without weights, as `Checkpoints.save` would name it."""
    path = folder.checkpoints.folder / f"step-{step:08d}"
    path.mkdir(parents=True)
    (path / "state.json").write_text(json.dumps({"step": step}))
    (path / "arrays.npz").write_bytes(b"")
    files = [path / "state.json", path / "arrays.npz"]
    (path / "manifest.json").write_text(json.dumps(sizes_and_hashes(path, files)))


def test_a_new_folder_has_no_checkpoint_and_is_not_finished(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    assert folder.newest_checkpoint() is None
    assert not folder.is_finished()
    folder.refuse_other_recipe()


def test_the_newest_checkpoint_comes_with_its_state(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    save(folder, 2)
    save(folder, 4)
    newest = folder.newest_checkpoint()
    assert newest is not None
    assert (newest.folder.name, newest.step, newest.state) == ("step-00000004", 4, {"step": 4})


def test_with_resume_never_checkpoints_are_neither_looked_at_nor_removed_before_the_run_is_built(
    tmp_path: Path,
) -> None:
    """If building the run finds a mistake in the recipe, the checkpoints of the earlier run must still exist."""
    save(run_folder(tmp_path), 2)
    folder = run_folder(tmp_path, "checkpoint.resume=never")
    assert folder.newest_checkpoint() is None
    assert folder.checkpoints.newest_whole() is not None
    folder.prepare(trained_steps=0)
    assert folder.checkpoints.newest_whole() is None


def test_a_fresh_start_that_is_killed_leaves_no_checkpoint_beside_the_new_recipe(tmp_path: Path, monkeypatch) -> None:
    """Else the next start would continue the weights of another experiment under the new recipe."""
    run_folder(tmp_path).prepare(trained_steps=0)
    save(run_folder(tmp_path), 2)
    monkeypatch.setattr(Checkpoints, "clear", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_folder(tmp_path, "training.seed=9", "checkpoint.resume=never").prepare(trained_steps=0)
    with pytest.raises(ValueError, match="another recipe"):
        run_folder(tmp_path, "training.seed=9").refuse_other_recipe()


@pytest.mark.parametrize("change", ["training.steps=9", "evaluation.every=0", "checkpoint.keep=1", "data.cache=null"])
def test_a_run_may_be_continued_with_settings_that_do_not_change_the_experiment(tmp_path: Path, change: str) -> None:
    run_folder(tmp_path).prepare(trained_steps=0)
    run_folder(tmp_path, change).refuse_other_recipe()


def test_another_experiment_in_the_folder_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    run_folder(tmp_path).prepare(trained_steps=0)
    with pytest.raises(ValueError, match=r"another recipe \(training.seed: 0 → 9\); set another output, or checkpoint"):
        run_folder(tmp_path, "training.seed=9").refuse_other_recipe()
    run_folder(tmp_path, "training.seed=9", "checkpoint.resume=never").refuse_other_recipe()


def test_a_step_is_the_best_if_its_scores_beat_those_of_earlier_checkpoints(tmp_path: Path) -> None:
    """Every second step has a checkpoint; step 3 has none, and step 8 was scored on other data."""
    folder = run_folder(tmp_path)
    scores = {0: ("faq", 0.9), 2: ("faq", 0.5), 3: ("faq", 0.8), 4: ("faq", 0.6), 6: ("faq", 0.4), 8: ("sts", 0.1)}
    entries = [
        {"step": step, "dataset": name, "metrics": {"ndcg_at_10": score}} for step, (name, score) in scores.items()
    ]
    folder.path.mkdir(parents=True)
    (folder.path / "evaluation.json").write_text(json.dumps(entries))
    assert [step for step in (2, 4, 5, 6, 8) if folder.is_best(step)] == [2, 4, 8]


def test_a_run_that_goes_back_to_a_step_may_change_its_learning_rate_and_records_it_once(tmp_path: Path) -> None:
    run_folder(tmp_path).prepare(trained_steps=0)
    for step in (2, 4):
        save(run_folder(tmp_path), step)
    changes = ("training.learning_rate=1.0e-5", "tasks.faq.weight=0.5")
    with pytest.raises(ValueError, match=r"0.001 → 1e-05\); .*, checkpoint.resume: STEP to go back"):
        run_folder(tmp_path, *changes).refuse_other_recipe()
    folder = run_folder(tmp_path, *changes, "checkpoint.resume=2")
    folder.refuse_other_recipe()
    for _ in range(2):  # the first start is killed before it has written the new recipe
        checkpoint = folder.newest_checkpoint()
        assert checkpoint is not None
        assert checkpoint.step == 2
        folder.go_on_from(checkpoint)
    folder.prepare(trained_steps=2)
    (entry,) = folder.changes.read()
    assert (entry["step"], entry["changed"]) == (
        2,
        {"training.learning_rate": [1e-3, 1e-5], "tasks.faq.weight": [1.0, 0.5]},
    )
    assert (folder.checkpoints.folder / "stopped-step-00000004").is_dir()
    save(folder, 3)  # the same command again, after a kill: on with what was trained since
    newest = folder.newest_checkpoint()
    assert newest is not None
    assert newest.step == 3


def test_a_start_that_is_killed_while_it_goes_back_goes_back_again(tmp_path: Path, monkeypatch) -> None:
    """Once recorded, it would go on from the newest checkpoint, which must then be no later one."""
    run_folder(tmp_path).prepare(trained_steps=0)
    for step in (2, 4):
        save(run_folder(tmp_path), step)
    for place in ("go_on_from", "_point"):
        with monkeypatch.context() as killed:
            killed.setattr(Checkpoints, place, lambda *_, **__: 1 / 0)
            folder = run_folder(tmp_path, "checkpoint.resume=2")
            checkpoint = folder.newest_checkpoint()
            assert checkpoint is not None
            with pytest.raises(ZeroDivisionError):
                folder.go_on_from(checkpoint)
        again = run_folder(tmp_path, "checkpoint.resume=2").newest_checkpoint()
        assert again is not None
        assert again.step == 2


def test_a_start_says_what_it_does_not_continue_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(tmp_path)
    for name in ("stopped-step-00000003", "stopped-step-00000001", "stopped-step-mine"):
        (folder.checkpoints.folder / name).mkdir(parents=True)
    save(folder, 2)
    assert folder.newest_checkpoint() is not None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("stopped-step-00000003 is kept aside and not continued from; checkpoint.resume: 3 would do so")


def test_going_back_to_a_step_does_not_allow_another_model_or_other_data(tmp_path: Path) -> None:
    run_folder(tmp_path).prepare(trained_steps=0)
    save(run_folder(tmp_path), 2)
    folder = run_folder(tmp_path, "checkpoint.resume=2", "model.pooling=cls", "training.learning_rate=1.0e-5")
    with pytest.raises(ValueError, match=r"another recipe \(model.pooling: 'mean' → 'cls'\)"):
        folder.refuse_other_recipe()


@pytest.mark.parametrize("name", ["run.json", "evaluation.json", "changes.json"])
@pytest.mark.parametrize("content", ["", '{"finished": tr', "[1]", '"a"', "null", "\x00", "{}}"])
def test_a_half_written_record_of_a_run_costs_one_line(tmp_path: Path, name: str, content: str) -> None:
    folder = run_folder(tmp_path, "checkpoint.resume=2")
    folder.prepare(trained_steps=0)
    (folder.path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"^\S*{name}: got another content, expected a JSON [^\n]*$"):
        folder.changes.read() if name == "changes.json" else folder.read(name, {})


def test_the_published_card_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    changes = (f"tasks.similar.path={tmp_path / 'sts' / 'train.jsonl'}", f"evaluation.data=[{tmp_path / 'faq'}, other]")
    folder = run_folder(tmp_path, *changes)
    folder.prepare(trained_steps=0)
    data = [{"task": "similar", "path": [f"{tmp_path}/a.jsonl", "~/b.jsonl"], "rows": 3, "hash": "abc"}]
    (folder.path / "run.json").write_text(json.dumps({"data": data}))
    folder.changes.add(2, [("training.learning_rate", 1e-3, 1e-5)], 4)
    card = _model_card(folder, CardOfEncoder(32), None, inference_prompts(folder.config))
    assert str(tmp_path) not in card
    assert "~" not in card
    assert "trained from `model`" in card
    assert "| similar | a.jsonl, b.jsonl | 3 | `abc` |" in card
    assert "path: retrieval.jsonl" in card  # relative: as the recipe says it
    assert "- changed after step 2: training.learning_rate: 0.001 → 1e-05" in card


def test_a_card_shows_the_scores_of_its_own_weights_and_no_others(tmp_path: Path) -> None:
    """A checkpoint between two evaluations had the scores of the earlier one, be it of the model before training."""
    folder = run_folder(tmp_path)
    folder.path.mkdir(parents=True)
    entries = [{"step": step, "dataset": "faq", "metrics": {"ndcg_at_10": step / 10}} for step in (0, 3)]
    (folder.path / "evaluation.json").write_text(json.dumps(entries))
    cards = {
        step: _model_card(folder, CardOfEncoder(32), step, inference_prompts(folder.config)) for step in (2, 3, 4, None)
    }
    assert "| faq | ndcg_at_10 | 0.0000 | 0.3000 |" in cards[3]
    assert "model-index" in cards[3]
    for step in (2, 4, None):
        assert "No scores of these weights are recorded." in cards[step]
        assert "model-index" not in cards[step]


def test_an_average_with_an_undefined_score_has_a_card_that_a_hub_can_read(tmp_path: Path) -> None:
    """Of a collapsed model no correlation is defined: `.nan` is no number of a model-index."""
    folder, nan = run_folder(tmp_path), float("nan")
    folder.path.mkdir(parents=True)
    after = {"faq": {"ndcg_at_10": 0.5}, "sts": {"spearman": nan}}
    averaged = AveragedWeights(Average.parsed("last:2"), (2, 4), 4, after, after)
    card = _model_card(folder, CardOfEncoder(32), 4, inference_prompts(folder.config), averaged)
    assert "nan" not in card
    assert "| sts | spearman |  |  |" in card


def test_the_best_step_is_chosen_among_those_with_a_checkpoint_and_a_better_one_that_is_lost_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run may be continued with another main metric, whose best step was perhaps not kept."""
    folder = run_folder(tmp_path, "evaluation.main_metric=faq/ndcg_at_10")
    scores = {0: 0.9, 2: 0.5, 3: 0.8, 4: 0.5, 6: None}
    entries = [{"step": s, "dataset": "faq", "metrics": {"ndcg_at_10": score}} for s, score in scores.items()]
    folder.path.mkdir(parents=True)
    (folder.path / "evaluation.json").write_text(json.dumps(entries))
    for step in (2, 4, 6):
        save(folder, step)
    assert (folder.best_step.best(), folder.best_step.best(3)) == (2, 3)
    assert [step for step in (2, 3, 4, 6) if folder.is_best(step)] == [2, 3]
    assert folder.step_of_model() == 2
    assert "step 3 has the best faq/ndcg_at_10, but no checkpoint any more: model/ is step 2" in capsys.readouterr().err
    assert run_folder(tmp_path).step_of_model() is None
