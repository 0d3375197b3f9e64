"""What an earlier start has left in mteb's folder: which of it counts for the tasks that are asked for now."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.parts.mteb_evaluation import MtebRequest, evaluate_on_mteb
from harness.evaluation.mteb.outcome import TaskScores

_TASK = """
from typing import Any

from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from tests.unit.evaluation.mteb.local_tasks import pairs


class TwoLanguages(AbsTaskSTS):
    metadata = TaskMetadata(
        name="TwoLanguages", description="made-up texts", type="STS", main_score="cosine_spearman", reference=None,
        dataset={"path": "local/local", "revision": "REVISION"}, eval_splits=["test"],
        eval_langs={"en": ["eng-Latn"], "zh": ["cmn-Hans"]},
    )

    def load_data(self, **_: Any) -> None:
        numbers = range(FIRST, FIRST + 40)
        self.dataset = {
            "en": pairs("score", [float(5 - i % 4) for i in numbers]),
            "zh": pairs("score", [float(i % 3) for i in numbers]),
        }
        self.data_loaded = True
"""


def scored(model: Path, folder: Path, *languages: str, revision: str = "1") -> TaskScores:
    """The scores of the task, whose data have other judgements in revision 2."""
    file = folder / f"task_{revision}.py"
    file.write_text(_TASK.replace("REVISION", revision).replace("FIRST", revision))
    request = MtebRequest(tasks=("TwoLanguages",), languages=languages, task_file=file, results=folder / "results")
    (task,) = evaluate_on_mteb(str(model), request).tasks
    return task


def test_a_language_alone_has_its_own_score_beside_kept_scores_of_others(model: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = scored(model, tmp_path / "alone", "cmn")
    both = scored(model, tmp_path)
    kept = scored(model, tmp_path, "cmn")
    assert [row["hf_subset"] for row in kept.by_split["test"]] == ["zh"]
    assert kept.score == pytest.approx(alone.score, abs=1e-5)
    assert kept.score != pytest.approx(both.score, abs=1e-2)


def test_scores_of_another_revision_of_the_data_are_not_taken_for_those_of_this_one(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = scored(model, tmp_path)
    second = scored(model, tmp_path, revision="2")
    assert second.score != pytest.approx(first.score, abs=1e-2)
    error = " ".join(capsys.readouterr().err.split())
    assert "are of revision 1 of its data, which has revision 2 now; it is scored again" in error
    assert scored(model, tmp_path, revision="2").score == pytest.approx(second.score, abs=1e-5)
