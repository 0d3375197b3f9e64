"""The deepspeed launcher and a single process give equal results and leave the promised files in the run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.ranks import free_port, run_command
from tests.tiny import text

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).parents[2]
CONTRACT_KEYS = {
    "step", "loss", "loss/faq", "loss/similar", "loss/intents", "learning_rate", "gradient_norm", "texts_per_second",
    "tokens_per_second", "positive_similarity", "negative_similarity",
}  # fmt: skip


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)


@pytest.fixture(scope="module")
def launched(folder):
    """Train the tiny recipe on two ranks with the launcher. Dropout is off, because its masks depend on the ranks."""
    done = run(
        "deepspeed", "--num_accelerators", "2", "--master_port", str(free_port()), "--log_level", "critical",
        "--module", "harness", "train", str(folder / "tiny.yaml"),
        "--set", "training.dropout=0.0", "--output", str(folder / "launched"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def alone(folder):
    """Train the same recipe in one process."""
    done = run(
        sys.executable, "-m", "harness", "train", str(folder / "tiny.yaml"), "--set", "training.dropout=0.0",
        "--output", str(folder / "alone"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def metrics(run_folder: Path) -> list[dict]:
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def test_the_run_folder_holds_what_the_contract_says(folder, launched):
    found = {path.name for path in (folder / "launched").iterdir()}
    assert {
        "recipe.yaml",
        "run.json",
        "metrics.jsonl",
        "evaluation.json",
        "checkpoints",
        "model",
        "tensorboard",
    } <= found
    rows = metrics(folder / "launched")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row.keys() >= CONTRACT_KEYS for row in rows)
    assert all(row.keys() == rows[0].keys() for row in rows)
    evaluation = json.loads((folder / "launched" / "evaluation.json").read_text())
    assert [(row["step"], row["dataset"]) for row in evaluation] == [
        (step, dataset) for step in (0, 3, 6) for dataset in ("faq", "sts", "intents")
    ]


def test_run_json_names_versions_hardware_ranks_memory_and_data(folder, launched):
    facts = json.loads((folder / "launched" / "run.json").read_text())
    assert facts["finished"] is True
    assert (facts["world_size"], facts["seed"], facts["resumed_from"]) == (2, 0, 0)
    assert len(facts["peak_memory_bytes"]) == 2
    assert min(facts["peak_memory_bytes"]) > 10**7
    assert [entry["rows"] for entry in facts["data"]] == [40, 30, 32]
    assert [entry["name"] for entry in facts["evaluation_data"]] == ["faq", "sts", "intents"]
    assert all(len(entry["hash"]) == 64 for entry in facts["data"] + facts["evaluation_data"])
    assert facts["texts_per_second"] > 0
    assert {"torch", "deepspeed", "transformers"} <= facts["versions"].keys()


def test_one_process_and_two_launched_ranks_train_the_same_model(folder, launched, alone):
    """The number of ranks does not change the loss: after six steps losses and scores are still equal."""
    two, one = metrics(folder / "launched"), metrics(folder / "alone")
    for name in ("loss", "loss/faq", "loss/similar", "loss/intents", "gradient_norm", "negative_similarity"):
        np.testing.assert_allclose([row[name] for row in two], [row[name] for row in one], rtol=1e-3, atol=1e-5)


def test_only_progress_and_the_result_are_printed(launched):
    """Messages of DeepSpeed and torch are not shown by default."""
    lines = (launched.stdout + launched.stderr).splitlines()
    assert lines[0] == "2 ranks on cpu: loading the model, then the data"
    assert lines.pop(1).startswith("memory allocator: freed memory is kept")
    assert lines[1:4] == [
        "faq: retrieval, queries: 10", "sts: sts, pairs: 12", "intents: classification, test texts: 16",
    ]  # fmt: skip
    assert lines[4] == "starting from step 1"
    assert lines[5].startswith("step 1/6  loss ")
    assert not [line for line in lines if "[INFO]" in line or "[WARNING]" in line or "Warning" in line]


def test_the_table_and_the_model_are_named_at_the_end(folder, launched):
    assert "before" in launched.stdout
    assert "ndcg_at_10" in launched.stdout
    assert launched.stdout.splitlines()[-1] == f"model: {folder / 'launched' / 'model'}"


def test_a_finished_run_prints_its_table_again_and_ends_well(folder, alone):
    recipe, output = str(folder / "tiny.yaml"), str(folder / "alone")
    again = run_command("train", recipe, "--set", "training.dropout=0.0", "--output", output)
    assert again.returncode == 0, again.stderr
    assert "is finished" in again.stdout
    assert "ndcg_at_10" in again.stdout


def test_evaluate_gives_the_scores_of_the_run_for_run_folder_checkpoint_and_model(folder, alone):
    final = {
        row["dataset"]: row["metrics"]
        for row in json.loads((folder / "alone" / "evaluation.json").read_text())
        if row["step"] == 6
    }
    for model in ("alone", "alone/checkpoints/step-00000006", "alone/model"):
        out = folder / f"{Path(model).name}.json"
        data = ("faq", "sts/test.jsonl", "intents", "--data-root", str(folder))
        done = run_command("evaluate", str(folder / model), *data, "--output", str(out))
        assert done.returncode == 0, done.stderr
        found = json.loads(out.read_text())["datasets"]
        for name, expected in final.items():
            for metric, value in found[name].items():
                assert value == pytest.approx(expected[metric], abs=1e-6), (model, name, metric)


def test_evaluate_under_the_launcher_gives_the_same_scores(folder, alone):
    out = folder / "launched_evaluation.json"
    done = run(
        "deepspeed", "--num_accelerators", "2", "--master_port", str(free_port()), "--log_level", "critical",
        "--module", "harness", "evaluate", str(folder / "alone"), "faq", "--data-root", str(folder),
        "--output", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    alone_scores = json.loads((folder / "alone" / "evaluation.json").read_text())[-3]["metrics"]
    assert json.loads(out.read_text())["datasets"]["faq"]["ndcg_at_10"] == pytest.approx(alone_scores["ndcg_at_10"])


def test_the_exported_model_equals_the_checkpoint_and_says_where_it_comes_from(folder, alone):
    out = folder / "exported"
    done = run_command("export", str(folder / "alone"), "--out", str(out))
    assert done.returncode == 0, done.stderr
    texts = [text(i) for i in range(5)]
    expected = SentenceTransformer(str(folder / "alone" / "model"), device="cpu").encode(texts)
    np.testing.assert_allclose(SentenceTransformer(str(out), device="cpu").encode(texts), expected, atol=1e-6)
    card = (out / "README.md").read_text()
    for word in ("ndcg_at_10", "Matryoshka dimensions: 8, 32", "retrieval.jsonl", "learning_rate"):
        assert word in card


def test_plan_shows_a_step_without_a_model(folder):
    done = run_command("plan", str(folder / "tiny.yaml"), "--step", "2", "--ranks", "3")
    assert done.returncode == 0, done.stderr
    assert "faq" in done.stdout
    assert "micro-batches" in done.stdout


def test_plan_predicts_for_a_gpu_and_writes_files(folder, tmp_path):
    json_file, picture = tmp_path / "prediction.json", tmp_path / "growth.png"
    files = "--json", str(json_file), "--curve", str(picture)
    done = run_command("plan", str(folder / "tiny.yaml"), "--ranks", "16", "--gpu", "H100", *files)
    assert done.returncode == 0, done.stderr
    assert "predicted memory of a rank" in done.stdout
    assert "seconds of a step: " in done.stdout
    found = json.loads(json_file.read_text())
    assert found["fits"] is True
    assert found["peak_bytes"] == sum(found["memory_bytes"][found["peak_moment"]].values())
    assert found["seconds"]["total"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_bad_row_stops_before_training_with_one_line(folder, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"query": "aral", "positive": "btin"}\n{"query": "", "positive": "btin"}\n')
    done = run(
        sys.executable, "-m", "harness", "train", str(folder / "tiny.yaml"), "--set", f"tasks.faq.path={bad}",
        "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == f"{bad}:2: query: got str '', expected a text that is not empty"
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
