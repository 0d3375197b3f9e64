"""`harness evaluate --tasks`: the scores are those of mteb's own run, in its own files, and nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.parts.mteb_evaluation import MtebRequest, evaluate_on_mteb
from harness.search.encode import TextEncoder
from tests.unit.evaluation.mteb.conftest import TASKS, mtebs_own, numbers, write_model

EXACT = 1e-6


def ours(model: Path, results: Path, *names: str, dims: tuple[int, ...] = (), **changes: Any) -> dict[str, Any]:
    request = MtebRequest(tasks=names, task_file=TASKS, results=results, **changes)
    found = evaluate_on_mteb(str(model), request, dims=dims)
    return {task.name: numbers(task.by_split["test"][0]) for task in found.tasks}


def test_six_kinds_of_task_have_the_scores_of_mtebs_own_run(
    model: Path, truth: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ours(model, tmp_path)
    assert found.keys() == truth.keys()
    for name, scores in truth.items():
        assert len(scores) >= 4
        assert found[name] == pytest.approx(scores, abs=EXACT), name
    assert 'prompts: TinyIntents: sentence prompt "dsul "' in capsys.readouterr().out


def test_the_prompts_of_the_fixture_change_every_score_that_they_should(truth: dict[str, Any], tmp_path: Path) -> None:
    """Otherwise the test above could not tell whether prompts are used."""
    without = mtebs_own(write_model(tmp_path, {}))
    same = {name for name in without if without[name] == truth[name]}
    assert same <= {"TinyPairs", "TinyClusters"}


def test_dim_is_truncate_dim_of_sentence_transformers_and_kept_apart(model: Path, tmp_path: Path) -> None:
    """Classification sees the length of a vector, so a prefix must not be normalised again."""
    names = ("TinyRetrieval", "TinyIntents")
    truth = mtebs_own(model, dim=8)
    found = ours(model, tmp_path, *names, dims=(8,))
    for name in names:
        assert found[name] == pytest.approx(truth[name], abs=EXACT), name
    (file,) = tmp_path.glob("results/*/*/experiments/embed_dim_8/TinyIntents.json")
    assert not (file.parents[2] / "TinyIntents.json").exists()


def test_results_lie_as_mteb_lays_them_and_the_card_says_null_of_what_is_unknown(model: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.yaml"
    card.write_text("languages: [eng-Latn]\ntraining_datasets: [STS12]\n")
    request = {"model_name": "my-org/my_model", "revision": "v1", "model_meta": card}
    ours(model, tmp_path, "TinySTS", **request)
    folder = tmp_path / "results" / "my-org__my_model" / "v1"
    result = json.loads((folder / "TinySTS.json").read_text())
    assert result["task_name"] == "TinySTS"
    assert result["scores"]["test"][0]["main_score"] == result["scores"]["test"][0]["cosine_spearman"]
    meta = json.loads((folder / "model_meta.json").read_text())
    assert (meta["name"], meta["revision"], meta["languages"]) == ("my-org/my_model", "v1", ["eng-Latn"])
    assert meta["training_datasets"] == ["STS12"]
    assert (meta["embed_dim"], meta["max_tokens"], meta["similarity_fn_name"]) == (32, 24, "cosine")
    assert meta["n_parameters"] > meta["n_embedding_parameters"] > 0
    assert meta["use_instructions"] is True
    assert (meta["license"], meta["open_weights"], meta["release_date"]) == (None, None, None)


def test_what_is_finished_is_not_encoded_again_and_a_half_written_file_is(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ours(model, tmp_path, "TinySTS", "TinyPairs")
    encoded: list[int] = []
    encode = TextEncoder.on_main
    monkeypatch.setattr(TextEncoder, "on_main", lambda *a: encoded.append(1) or encode(*a))
    (file,) = tmp_path.glob("results/*/*/TinyPairs.json")
    file.write_text(file.read_text()[:100])
    again = ours(model, tmp_path, "TinySTS", "TinyPairs")
    assert len(encoded) == 2  # the first and the second texts of TinyPairs
    assert again["TinyPairs"] == pytest.approx(first["TinyPairs"], abs=EXACT)
    shown = capsys.readouterr()
    assert "TinySTS: has its scores already" in shown.out
    assert "is damaged, as a kill while it was written leaves it" in " ".join(shown.err.split())
    ours(model, tmp_path, "TinySTS", overwrite=True)
    assert len(encoded) == 4


def test_scores_of_other_weights_are_never_taken_for_the_models(model: Path, tmp_path: Path) -> None:
    same_name = {"model_name": "a/b", "revision": "main"}
    ours(model, tmp_path / "out", "TinySTS", **same_name)
    other = write_model(tmp_path, {"query": "other "})
    with pytest.raises(ValueError, match=r"--results: .*b/main has scores of this name and revision, but of other"):
        ours(other, tmp_path / "out", "TinySTS", **same_name)
    by_mteb = tmp_path / "foreign" / "results" / "a__b" / "main"
    by_mteb.mkdir(parents=True)
    (by_mteb / "TinySTS.json").write_text("{}")
    with pytest.raises(ValueError, match=r"--results: got .* which holds TinySTS.json and is not a folder of mteb"):
        ours(model, tmp_path / "foreign", "TinySTS", **same_name)


def test_a_task_without_data_costs_a_line_and_the_others_go_on(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.json"
    request = MtebRequest(tasks=("STS12", "TinySTS"), task_file=TASKS, results=tmp_path)
    with pytest.raises(ValueError, match="1 of 2 tasks have no scores: STS12; the lines above say why"):
        evaluate_on_mteb(str(model), request, output=output)
    error = " ".join(capsys.readouterr().err.split())
    assert "warning: STS12: its data (mteb/sts12-sts) cannot be had (" in error
    assert "HF_HUB_OFFLINE is set" in error
    written = json.loads(output.read_text())
    assert written["datasets"].keys() == {"mteb/TinySTS"}
    assert written["mteb"]["averages"]["STS"] == {"score": None, "scored": 1, "of": 2}


def test_a_folder_takes_the_place_of_the_hub(model: Path, tmp_path: Path) -> None:
    rows = [{"sentence1": f"aral {i}", "sentence2": "aral btin", "score": i % 6} for i in range(12)]
    file = tmp_path / "hub" / "mteb" / "sts12-sts" / "test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluate_on_mteb(str(model), MtebRequest(tasks=("STS12",), data=tmp_path / "hub", results=tmp_path / "out"))
    assert [task.name for task in found.tasks] == ["STS12"]
    assert found.tasks[0].score is not None
