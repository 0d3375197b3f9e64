"""The comparison of negatives: no test document is mined, and the arms differ only in their negatives."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.negatives.benchmark import prepare, runs_in_order
from benchmarks.negatives.data import MINED_IN_TRAINING_ROWS, TRAIN_FILES, write_data
from benchmarks.negatives.recipes import ARMS, MAX_LENGTH, PUBLISHED_ARMS, SIZES, recipe
from benchmarks.negatives.result import MEAN, FinishedRun, compare, describe, finished_runs, totals, write_result
from benchmarks.runner.data import RetrievalSize
from benchmarks.runner.tokens import equal_token_quota
from harness.config import RunConfig
from harness.data.table.tokenisation import Tokeniser
from harness.mining.config import build_rule
from harness.settings.recipe_file import build
from tests.tiny import make_model, text, write_jsonl

DOCUMENTS, TEST_QUERIES = 30, 10
SMALL = RetrievalSize(rows=5, corpus=8, test_queries=3, test_documents=6)


def document(name: str, key: int) -> dict[str, str]:
    return {"_id": f"d{key}", "title": f"title {key}" if key % 2 else "", "text": text(100 + key, 9) + f" {name} {key}"}


def full_text(row: dict[str, str]) -> str:
    return f"{row['title']}\n{row['text']}" if row["title"] else row["text"]


def make_source(root: Path) -> Path:
    """Write four data sets. For test query i document i is relevant and document i + 1 is judged irrelevant.

    Training row i has the positives i and i + 5.
    """
    for name, train_file in TRAIN_FILES.items():
        documents = [document(name, key) for key in range(DOCUMENTS)]
        write_jsonl(root / "retrieval" / name / "corpus.jsonl", documents)
        queries = [{"_id": f"q{i}", "text": text(500 + i)} for i in range(TEST_QUERIES + 5)]
        write_jsonl(root / "retrieval" / name / "queries.jsonl", queries)
        judged = [f"q{i}\td{i}\t2\nq{i}\td{i + 1}\t0" for i in range(TEST_QUERIES)]
        (root / "retrieval" / name / "qrels").mkdir()
        lines = "\n".join(["query-id\tcorpus-id\tscore", *judged])
        (root / "retrieval" / name / "qrels" / "test.tsv").write_text(lines + "\n")
        if name in MINED_IN_TRAINING_ROWS:
            rows: list[Any] = [{"query": text(900 + i), "positive": text(950 + i, 8)} for i in range(20)]
        else:
            rows = [
                {
                    "query": text(900 + i),
                    "positive": [full_text(documents[i]), full_text(documents[i + 5])],
                    "negative": ["no"],
                }
                for i in range(20)
            ]
        file = root / train_file
        file.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(file, "wt", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_no_document_relevant_to_a_test_query_is_mined_not_even_of_a_query_left_out(source: Path, tmp_path: Path):
    write_data(source, tmp_path / "data", SMALL)
    for name in TRAIN_FILES:
        mined = {row["text"] for row in read(tmp_path / "data" / "corpus" / f"{name}.jsonl")}
        relevant = {full_text(document(name, key)) for key in range(TEST_QUERIES)}
        assert mined
        assert not mined & relevant


def test_the_positives_stand_in_the_corpus_letter_by_letter_so_that_mining_leaves_them_out(
    source: Path, tmp_path: Path
):
    write_data(source, tmp_path / "data", RetrievalSize(None, None, None, None))
    for name in set(TRAIN_FILES) - set(MINED_IN_TRAINING_ROWS):
        mined = {row["text"] for row in read(tmp_path / "data" / "corpus" / f"{name}.jsonl")}
        assert mined == {full_text(document(name, key)) for key in range(TEST_QUERIES, DOCUMENTS)}
        rows = read(tmp_path / "data" / "train" / f"{name}.jsonl")
        held_out = {full_text(document(name, key)) for key in range(TEST_QUERIES)}
        assert {text for row in rows for text in row["positive"]} - held_out <= mined


def test_every_relevant_document_of_a_sampled_query_can_be_found(source: Path, tmp_path: Path):
    counts = write_data(source, tmp_path / "data", SMALL)
    for name in TRAIN_FILES:
        folder = tmp_path / "data" / "retrieval" / name
        offered = {row["_id"] for row in read(folder / "corpus.jsonl")}
        judgements = [line.split("\t") for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]]
        assert {query for query, _, _ in judgements} == {row["_id"] for row in read(folder / "queries.jsonl")}
        assert {key for _, key, _ in judgements} <= offered
        assert {grade for _, _, grade in judgements} == {"2"}
        assert counts[name] == {
            "training queries": 5,
            "documents mined": len(read(tmp_path / "data" / "corpus" / f"{name}.jsonl")),
            "test queries": 3,
            "test documents": 6,
        }


def test_the_files_are_the_same_bytes_at_every_start(source: Path, tmp_path: Path):
    for folder in ("once", "again"):
        write_data(source, tmp_path / folder, SMALL)
    files = [file for file in (tmp_path / "once").rglob("*") if file.is_file()]
    assert len(files) == 5 * len(TRAIN_FILES)
    for file in files:
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "once")).read_bytes()


def test_a_missing_file_is_named_with_the_option_to_change(tmp_path: Path):
    with pytest.raises(ValueError, match=r"--data-root: got no file .*corpus\.jsonl"):
        write_data(tmp_path, tmp_path / "data", SMALL)


def config_of(arm: str, seed: int = 0) -> RunConfig:
    quotas = dict.fromkeys(TRAIN_FILES, 17)
    run_recipe = recipe(arm, seed, SIZES["small"], model="demo-minilm", out=Path("out"), quotas=quotas)
    return build(RunConfig, run_recipe, "recipe")


def test_the_arms_with_negatives_differ_in_mining_name_and_output_only():
    def rest(arm: str) -> dict[str, Any]:
        return config_of(arm).model_dump(exclude={"name", "output", "mining"})

    assert rest("v1") == rest("v2") == rest("v2_no_floor") == rest("static")
    assert rest("none") != rest("static")
    tasks = ("tasks",)
    assert {k: v for k, v in rest("none").items() if k not in tasks} == {
        k: v for k, v in rest("static").items() if k not in tasks
    }


def test_every_arm_has_the_rule_of_its_name():
    rules = {arm: build_rule(config_of(arm).mining) for arm in ARMS}
    assert rules["static"] is rules["none"] is None
    v1, v2, bare = rules["v1"], rules["v2"], rules["v2_no_floor"]
    assert v1 is not None and v1.name == "v1" and v1.interval == SIZES["small"].v1_interval  # noqa: PT018
    assert v2 is not None and v2.name == "v2" and v2.numbers["floor"] == 0.4  # noqa: PT018
    assert bare is not None and bare.numbers["floor"] == -1  # noqa: PT018
    assert all(task.negatives.per_query == 0 and task.negatives.bank is None for task in config_of("none").tasks)


def test_each_query_comes_often_enough_to_be_replaced():
    """S0 is read at a query's first visit, S at a second, and the replacing negative is used at a third."""
    size = SIZES["small"]
    assert size.data.rows is not None
    assert size.steps * size.quota >= 5 * size.data.rows
    assert size.v1_interval * size.quota >= size.data.rows  # every query is used between two checks


def test_the_arm_without_negatives_has_as_many_tokens_in_a_step_as_the_others(source: Path, tmp_path: Path):
    model, quota, per_query = make_model(tmp_path / "model"), 6, 3
    write_data(source, tmp_path / "data", RetrievalSize(None, None, None, None))
    tokeniser = Tokeniser(str(model))
    for name in TRAIN_FILES:

        def mean_length(file: Path, key: str) -> float:
            return sum(len(tokeniser.encode([row[key]], MAX_LENGTH)[0]) for row in read(file)) / len(read(file))

        query = mean_length(tmp_path / "data" / "train" / f"{name}.jsonl", "query")
        positive = mean_length(tmp_path / "data" / "corpus" / f"{name}.jsonl", "text")
        found = equal_token_quota(str(model), tmp_path / "data", name, quota, per_query, MAX_LENGTH)
        with_negatives = quota * (query + (1 + per_query) * positive)
        assert abs(found * (query + positive) - with_negatives) <= (query + positive) / 2
        assert quota < found < quota * (1 + per_query)


def test_a_seeds_arms_come_together_and_the_extra_arm_last():
    runs = runs_in_order(None, [0, 1], extra=True)
    assert runs[:4] == [(arm, 0) for arm in PUBLISHED_ARMS]
    assert runs[8:] == [("v2_no_floor", 0), ("v2_no_floor", 1)]
    assert runs_in_order(["v2_no_floor:7"], [0], extra=False) == [("v2_no_floor", 7)]


def test_a_folder_of_another_experiment_is_refused(tmp_path: Path):
    (tmp_path / "experiment.json").write_text(json.dumps({"model": "other", "size": {}}))
    with pytest.raises(ValueError, match="expected the same --model and --size, or a new folder"):
        prepare(tmp_path, tmp_path, "demo-minilm", SIZES["tiny"])


def metrics_rows(replaced: list[float]) -> list[dict[str, float]]:
    keys = {
        "negative_similarity": 0.4,
        "negative_similarity_start": 0.5,
        "num_tokens": 100,
        "num_texts": 7,
        "seconds": 2,
    }
    return [{"step": i + 1, "negatives_replaced": n, "negatives_exhausted": 1, **keys} for i, n in enumerate(replaced)]


def finished(arm: str, seed: int, one: float, two: float, replaced: list[float]) -> FinishedRun:
    return FinishedRun(arm, seed, {"one": one, "two": two}, metrics_rows(replaced))


def test_differences_are_paired_by_seed_and_spreads_are_over_seeds():
    runs = [
        finished("static", 0, 0.2, 0.4, [0]),
        finished("static", 1, 0.6, 0.8, [0]),
        finished("v1", 0, 0.3, 0.5, [3]),
        finished("v1", 1, 0.7, 0.9, [3]),
        finished("v1", 2, 0.8, 0.1, [3]),  # the arm static has no run with this seed
    ]
    cells = compare(runs)
    assert cells["static"]["one"].mean == pytest.approx(0.4)
    assert cells["static"]["one"].spread == pytest.approx(
        (2 * 0.2**2) ** 0.5
    )  # sample deviation of two seeds: one degree of freedom
    assert cells["v1"]["one"].mean == pytest.approx(0.6)
    assert cells["v1"]["one"].difference == pytest.approx(0.1)
    assert cells["v1"]["one"].difference_spread == pytest.approx(0.0)
    assert cells["v1"][MEAN].difference == pytest.approx(0.1)
    assert compare(runs[2:])["v1"]["one"].difference is None


FACTS = {
    "model": "demo-minilm",
    "size": {"steps": 2, "quota": 2, "per_query": 3, "learning_rate": 1e-4, "v1_interval": 1},
    "rows": {name: {"test queries": 1} for name in TRAIN_FILES},
    "quotas_without_negatives": dict.fromkeys(TRAIN_FILES, 5),
    "max_length": MAX_LENGTH,
}


def test_the_share_replaced_is_of_all_negatives_shown():
    found = totals([finished("v1", 0, 0.1, 0.1, [0, 12]), finished("v1", 1, 0.1, 0.1, [0, 0])], FACTS)
    assert found["replaced"] == 6
    assert found["replaced_share"] == 6 / (
        2 * 2 * 3 * 4
    )  # steps, queries of a data set, negatives of a query, data sets
    assert (found["exhausted"], found["tokens"], found["texts"], found["seconds"]) == (2, 200, 14, 4)


def write_finished(out: Path, arm: str, seed: int, score: float) -> None:
    scores = {"datasets": {name: {"ndcg_at_10": score} for name in TRAIN_FILES}}
    (out / "scores").mkdir(parents=True, exist_ok=True)
    (out / "scores" / f"{arm}-{seed}.json").write_text(json.dumps(scores))
    write_jsonl(out / "runs" / f"{arm}-{seed}" / "metrics.jsonl", metrics_rows([0, 5]))


def test_what_is_finished_is_written_as_table_json_and_figure_and_the_start_is_no_run(tmp_path: Path):
    write_finished(tmp_path, "v2_no_floor", 1, 0.6)
    write_finished(tmp_path, "static", 1, 0.5)
    start = {"datasets": {name: {"ndcg_at_10": 0.25} for name in TRAIN_FILES}}
    (tmp_path / "scores" / "start.json").write_text(json.dumps(start))
    (tmp_path / "scores" / "v1-0.part").write_text("")  # a file of a killed run
    assert [(run.arm, run.seed) for run in finished_runs(tmp_path)] == [("static", 1), ("v2_no_floor", 1)]
    shown = write_result(tmp_path, FACTS)
    assert shown + "\n" == (tmp_path / "result.md").read_text()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["cells"]["v2_no_floor"][MEAN]["difference"] == pytest.approx(0.1)
    assert (tmp_path / "negatives.png").read_bytes().startswith(b"\x89PNG")
    assert "| starting model | 0.2500 |" in shown


def test_the_table_says_how_many_seeds_and_leaves_unknown_spreads_out():
    runs = [finished("static", 0, 0.2, 0.4, [0]), finished("v1", 0, 0.3, 0.5, [3])]
    runs = [FinishedRun(run.arm, run.seed, dict.fromkeys(TRAIN_FILES, run.ndcg["one"]), run.steps) for run in runs]
    shown = describe(dict.fromkeys(TRAIN_FILES, 0.1), runs, FACTS)
    assert "| v1, 1 seed | +0.1000 | +0.1000 |" in shown
    assert "nan" not in shown


def test_without_a_finished_run_the_table_says_so(tmp_path: Path):
    (tmp_path / "scores").mkdir()
    start = {"datasets": {name: {"ndcg_at_10": 0.25} for name in TRAIN_FILES}}
    (tmp_path / "scores" / "start.json").write_text(json.dumps(start))
    with pytest.raises(ValueError, match="no run is finished"):
        write_result(tmp_path, FACTS)
