"""metrics.jsonl, evaluation.json, run.json and the event files are complete after any kill and cut on resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.report.metrics_file import EvaluationFile, MetricsFile
from harness.report.report import Report
from harness.report.run_file import RunFile, hardware, package_versions
from harness.report.trackers.tensorboard import TensorBoardFiles
from tests.unit.report.metrics import STEP_METRICS

CONFIG = SimpleNamespace(name="small", training=SimpleNamespace(seed=7))


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_key_stands_in_every_row_even_if_it_comes_late(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"step": 1, "loss": 2.0})
    file.append({"step": 2, "loss": 1.0, "loss/late": 0.5})
    file.append({"step": 3, "loss/late": 0.4})
    assert rows(file.path) == [
        {"step": 1, "loss": 2.0, "loss/late": None},
        {"step": 2, "loss": 1.0, "loss/late": 0.5},
        {"step": 3, "loss": None, "loss/late": 0.4},
    ]


def test_what_json_cannot_say_is_null(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"step": 1, "loss": math.nan, "norm": math.inf})
    assert rows(file.path) == [{"step": 1, "loss": None, "norm": None}]


@pytest.mark.parametrize("num_bytes_lost", range(1, 26))
def test_a_line_torn_by_a_kill_is_dropped_and_the_rest_kept(tmp_path: Path, num_bytes_lost: int) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    file.append({"step": 1, "loss": 2.0})
    file.append({"step": 2, "loss": 1.0})
    path.write_bytes(path.read_bytes()[:-num_bytes_lost])
    file = MetricsFile(path)
    assert [row["step"] for row in rows(path)] == [1]
    file.append({"step": 2, "loss": 1.0})
    assert [row["step"] for row in rows(path)] == [1, 2]


def test_a_broken_line_in_the_middle_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2: got '\{\"step\"', expected a JSON object with a step"):
        MetricsFile(path)


def test_rows_after_the_resumed_step_are_cut_and_the_keys_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    for step in (1, 2, 3, 4):
        file.append({"step": step, "loss": 1.0 / step})
    before = path.read_bytes().splitlines(keepends=True)
    file = MetricsFile(path)
    file.truncate_after(2)
    assert path.read_bytes() == b"".join(before[:2])
    file.append({"step": 3, "loss": 1 / 3})
    assert path.read_bytes() == b"".join(before[:3])


def test_evaluations_are_a_list_from_the_start_and_cut_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    file = EvaluationFile(path)
    assert json.loads(path.read_text()) == []
    file.add(0, {"faq": {"ndcg_at_10": 0.5}, "sts": {"spearman": math.nan}})
    file.add(20, {"faq": {"ndcg_at_10": 0.6}})
    file.add(20, {"faq": {"ndcg_at_10": 0.7}})  # a step evaluated again after a resume
    file = EvaluationFile(path)
    assert file.results(20) == {"faq": {"ndcg_at_10": 0.7}}
    file.truncate_after(10)
    assert json.loads(path.read_text()) == [
        {"step": 0, "dataset": "faq", "metrics": {"ndcg_at_10": 0.5}},
        {"step": 0, "dataset": "sts", "metrics": {"spearman": None}},
    ]


def test_an_evaluation_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('[{"step": 1}]')
    with pytest.raises(ValueError, match=r"evaluation.json: got another content, expected a JSON list"):
        EvaluationFile(tmp_path / "evaluation.json")


def test_a_file_is_replaced_as_a_whole_even_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = EvaluationFile(tmp_path / "evaluation.json")
    file.add(0, {"faq": {"ndcg_at_10": 0.5}})
    before = file.path.read_text()
    monkeypatch.setattr("harness.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        file.add(20, {"faq": {"ndcg_at_10": 0.6}})
    assert file.path.read_text() == before


def test_a_run_is_finished_only_after_its_end_and_keeps_its_first_start(tmp_path: Path) -> None:
    file = RunFile(tmp_path / "run.json")
    assert file.read() is None
    file.start({"name": "small"}, resumed_from=0)
    first = file.read()
    assert first is not None
    assert (first["finished"], first["resumed_from"], first["ended"]) == (False, 0, None)
    (tmp_path / "run.json").write_text(json.dumps({**first, "started": "2020-01-01T00:00:00+00:00"}))
    file.start({"name": "small"}, resumed_from=20)
    file.finish({"texts_per_second": 3.0})
    last = file.read()
    assert last is not None
    assert (last["finished"], last["resumed_from"], last["texts_per_second"]) == (True, 20, 3.0)
    assert last["started"] == "2020-01-01T00:00:00+00:00"
    assert last["resumed"] <= last["ended"]


def test_versions_and_hardware_name_what_a_result_depends_on() -> None:
    import torch

    versions = package_versions()
    assert versions["torch"] == torch.__version__
    assert {"harness", "commit", "python", "deepspeed", "transformers", "datasets", "triton"} <= versions.keys()
    machine = hardware()
    assert machine["cpu"]
    assert machine["num_cores"] >= 1
    assert machine["memory_bytes"] > 2**28
    assert len(machine["gpus"]) == torch.cuda.device_count()


def events(folder: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, round(event.value, 4)) for event in accumulator.Scalars(tag)]


def test_a_continued_run_hides_the_events_after_its_checkpoint(tmp_path: Path) -> None:
    first = TensorBoardFiles(tmp_path, {}, resumed_from=0)
    for step in (1, 2, 3, 4):
        first.add(step, {"loss": 1.0, "missing": None})
    first.close()
    second = TensorBoardFiles(tmp_path, {}, resumed_from=2)
    second.add(3, {"loss": 0.5})
    second.close()
    assert events(tmp_path / "tensorboard", "loss") == [(1, 1.0), (2, 1.0), (3, 0.5)]


def test_the_report_writes_the_run_folder_of_the_contract(tmp_path: Path) -> None:
    data = [{"task": "faq", "path": "faq.jsonl", "rows": 8, "hash": "ab"}]
    with Report(tmp_path, CONFIG, total_steps=2, resumed_from=0, data=data) as report:
        report.evaluation(0, {"faq": {"ndcg_at_10": 0.5}})
        report.step(STEP_METRICS)
        report.step({**STEP_METRICS, "step": 2, "num_texts": 80})
        report.evaluation(2, {"faq": {"ndcg_at_10": 0.6}})
        report.finish([100, 200], exported="model")
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 2]
    assert report.evaluation_results(2) == {"faq": {"ndcg_at_10": 0.6}}
    facts = json.loads((tmp_path / "run.json").read_text())
    assert (facts["name"], facts["steps"], facts["seed"], facts["world_size"]) == ("small", 2, 7, 1)
    assert (facts["texts_per_second"], facts["tokens_per_second"]) == (30.0, 400.0)
    assert (facts["peak_memory_bytes"], facts["exported"], facts["finished"]) == ([100, 200], "model", True)
    assert facts["data"] == data


def test_whatever_a_step_has_measured_stands_in_the_row(tmp_path: Path) -> None:
    """A new metric is named only in the code that measures it."""
    with Report(tmp_path, CONFIG, total_steps=1, resumed_from=0) as report:
        report.step({**STEP_METRICS, "a_new_metric": 0.25})
    expected = {name: None if math.isnan(value) else value for name, value in STEP_METRICS.items()}
    assert rows(tmp_path / "metrics.jsonl") == [{**expected, "a_new_metric": 0.25}]


def test_a_report_continues_after_the_checkpoint_and_a_fresh_one_starts_over(tmp_path: Path) -> None:
    def steps(file: str) -> list[object]:
        text = (tmp_path / file).read_text()
        entries = json.loads(text) if file.endswith("json") else [json.loads(line) for line in text.splitlines()]
        return [entry["step"] for entry in entries]

    def run(resumed_from: int, last: int) -> None:
        with Report(tmp_path, CONFIG, total_steps=4, resumed_from=resumed_from) as report:
            for step in range(resumed_from + 1, last + 1):
                report.step({**STEP_METRICS, "step": step})
                report.evaluation(step, {"faq": {"ndcg_at_10": 0.5}})

    run(0, 3)
    run(2, 4)
    assert steps("metrics.jsonl") == [1, 2, 3, 4]
    assert steps("evaluation.json") == [1, 2, 3, 4]
    assert json.loads((tmp_path / "run.json").read_text())["resumed_from"] == 2
    run(0, 1)
    assert steps("metrics.jsonl") == [1]
    assert steps("evaluation.json") == [1]


def test_other_ranks_print_nothing_and_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.report.report.comm.is_main", lambda: False)
    with Report(tmp_path / "run", CONFIG, total_steps=1, resumed_from=0) as report:
        report.evaluation(0, {"faq": {"ndcg_at_10": 0.5}})
        report.step(STEP_METRICS)
        report.message("hello")
        report.show("hello")
        report.finish([1])
    assert not list((tmp_path / "run").rglob("*"))  # a heartbeat while it ran
    assert capsys.readouterr() == ("", "")
