"""Two ranks share the encoding and the search of mteb's tasks, in `harness evaluate` and during training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ranks import leave_out_report, run_ranks
from tests.tiny import make_data, make_model, make_recipe, text, write_jsonl
from tests.unit.evaluation.mteb.conftest import PROMPTS, TASKS, numbers, write_model

EXACT = 1e-6


def evaluate_tasks(model: str, results: str) -> dict[str, Any]:
    """On rank 0 the scores, and mteb's own through sentence-transformers; on all ranks the texts that it encoded."""
    from harness import comm
    from harness.cli.parts.mteb_evaluation import MtebRequest, evaluate_on_mteb
    from harness.search.encode import TextEncoder

    encoded: list[int] = []
    encode = TextEncoder._token_ids
    TextEncoder._token_ids = lambda self, texts, role: encoded.append(len(texts)) or encode(self, texts, role)  # type: ignore[func-returns-value]
    is_main = comm.is_main()
    found = evaluate_on_mteb(model, MtebRequest(task_file=TASKS, results=Path(results)))
    scores = {task.name: numbers(task.by_split["test"][0]) for task in found.tasks}
    truth = {}
    if is_main:
        from tests.unit.evaluation.mteb.conftest import mtebs_own

        truth = mtebs_own(Path(model))
    return {"scores": scores, "truth": truth, "encoded": sum(encoded)}


def test_two_ranks_share_the_work_and_have_the_scores_of_mtebs_own_run(tmp_path: Path) -> None:
    pytest.importorskip("mteb")
    first, second = run_ranks(2, evaluate_tasks, str(write_model(tmp_path, PROMPTS)), str(tmp_path / "out"))
    assert len(first["truth"]) == 6
    for name, scores in first["truth"].items():
        assert first["scores"][name] == pytest.approx(scores, abs=EXACT), name
    assert second["scores"] == first["scores"]
    assert second["encoded"] == pytest.approx(first["encoded"], rel=0.4)


def search(number: int) -> Any:
    """Nearest documents, added in two parts of odd sizes, of vectors that stand for their texts."""
    from harness import comm
    from harness.evaluation.mteb.ranks import AddDocuments, Ranks, Search, together

    vectors = np.random.RandomState(0).standard_normal((number, 8)).astype(np.float32)

    class Vectors:
        def with_prompts(self, prompts: Any) -> Any:
            return self

        def __call__(self, texts: list[str], role: str) -> np.ndarray:
            return vectors[[int(name) for name in texts]]

        def encode_share(self, read: Any, numbers: np.ndarray, role: str) -> np.ndarray:
            return vectors[[int(name) for name in read(numbers)]].reshape(len(numbers), 8)

    names = [str(i) for i in range(number)]

    def work(ask: Any) -> Any:
        for _ in range(2):  # the second search knows nothing of the first one's documents
            ask(AddDocuments(names[:5], ""))
            ask(AddDocuments(names[5:], ""))
            found = ask(Search(names, "", 3))
        return found.index_QK.tolist()

    nearest = together(work, Ranks(Vectors(), normalize=True))  # type: ignore[arg-type]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert nearest == np.argsort(-unit @ unit.T, axis=1)[:, :3].tolist(), comm.rank()
    return nearest


def test_documents_keep_their_numbers_whichever_rank_holds_them() -> None:
    assert len(run_ranks(3, search, 12)[2]) == 12


def fail() -> str:
    from harness.evaluation.mteb.ranks import together

    def work(ask: Any) -> None:
        ask("a")
        raise ValueError("no such thing")

    try:
        together(work, lambda request: request)
    except ValueError as error:
        return str(error)
    return "nothing"


def test_an_error_on_rank_0_ends_all_ranks_with_its_message() -> None:
    assert run_ranks(2, fail) == ["no such thing"] * 2


def train(recipe: str, data_root: str) -> Any:
    """Train; on rank 0 mteb's own score of the exported model."""
    import mteb
    from sentence_transformers import SentenceTransformer

    from harness.config import load_recipe
    from harness.evaluation.mteb.select import Selection, selected_tasks
    from harness.trainer import train

    leave_out_report()
    loaded = load_recipe(recipe)
    train(loaded)
    tasks = selected_tasks(Selection(tasks=("STS12",), data=Path(data_root)))
    exported = SentenceTransformer(f"{loaded.config.output}/model", device="cpu")
    return mteb.evaluate(exported, tasks, cache=None, show_progress_bar=False).task_results[0].get_score()


def test_tasks_of_mteb_are_scored_at_their_steps_of_a_run(tmp_path: Path) -> None:
    """The last score is that of the exported folder; the best checkpoint is chosen by the data sets all the same."""
    pytest.importorskip("mteb")
    make_model(tmp_path / "model")
    rows = [{"sentence1": text(i, 5), "sentence2": text(i + i % 3, 5), "score": float(i % 6)} for i in range(24)]
    write_jsonl(make_data(tmp_path) / "hub" / "mteb" / "sts12-sts" / "test.jsonl", rows)
    recipe = make_recipe(tmp_path)
    mteb = "mteb: {tasks: [STS12], every: 2, data: hub}, data: [sts/test.jsonl]"
    recipe.write_text(recipe.read_text().replace("data: [faq, sts/test.jsonl, intents]", mteb))
    (truth,) = run_ranks(1, train, str(recipe), str(tmp_path / "hub"))
    entries = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    of_mteb = {entry["step"]: entry["metrics"] for entry in entries if entry["dataset"] == "mteb/STS12"}
    assert list(of_mteb) == [0, 2, 4, 6]
    assert {entry["step"] for entry in entries if entry["dataset"] == "sts"} == {0, 3, 6}
    assert of_mteb[6]["cosine_spearman"] == pytest.approx(truth, abs=EXACT)
    assert len({metrics["cosine_spearman"] for metrics in of_mteb.values()}) > 1
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["evaluation_data"]
    assert [fact["name"] for fact in facts] == ["sts", "mteb/STS12"]
    assert (tmp_path / "run" / "checkpoints" / "best").read_text().split()[0] == "step-00000006"
