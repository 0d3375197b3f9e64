"""Training scripts of sentence-transformers: what is trained, scored and put before texts there is so here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict

from harness.config import check_tree
from harness.conversion.convert import Converted, convert
from harness.conversion.given.read import read_given
from tests.tiny import make_model, write_jsonl
from tests.unit.cli.command_line import invoke

HEAD = """
from datasets import load_dataset, load_from_disk
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
model = SentenceTransformer("ORG/MODEL")
"""
TRIPLETS = [{"anchor": f"q{i}", "positive": f"p{i}", "negative_1": f"n{i}", "negative_2": f"m{i}"} for i in range(4)]
PAIRS = [{"sentence1": f"a{i}", "sentence2": f"b{i}", "score": i / 4} for i in range(4)]


def of_script(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Converted:
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text(HEAD + text)
    found = convert(read_given(["train.py"], None), ranks=1)
    check_tree(found.tree, "converted", folder)
    return found


def said(found: Converted) -> str:
    return "\n".join(map(str, found.remarks))


def task(found: Converted, index: int = 0, *keys: str) -> Any:
    value = found.tree["tasks"][index]
    return {key: value.get(key) for key in keys}


def test_what_is_scored_is_not_trained_on_and_chooses_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every data set that a script loaded was a task: the recipe trained on the development set."""
    write_jsonl(tmp_path / "train.jsonl", TRIPLETS)
    write_jsonl(tmp_path / "sts_dev.jsonl", PAIRS)
    text = """
train = load_dataset("json", data_files="train.jsonl", split="train")
dev = load_dataset("json", data_files="sts_dev.jsonl", split="train")
loss = losses.MultipleNegativesRankingLoss(model)
evaluator = EmbeddingSimilarityEvaluator(dev["sentence1"], dev["sentence2"], scores=dev["score"], name="sts-dev")
args = SentenceTransformerTrainingArguments(max_steps=2, metric_for_best_model="eval_sts-dev_spearman_cosine")
SentenceTransformerTrainer(model, args, train, dev, loss, evaluator=evaluator).train()
"""
    tree = of_script(tmp_path, text, monkeypatch).tree
    assert [one["path"] for one in tree["tasks"]] == ["train.jsonl"]
    assert tree["evaluation"] == {"data": ["sts_dev.jsonl"], "main_metric": "sts_dev/spearman"}


def test_data_that_is_trained_on_as_well_or_changed_is_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of which the script splits off a part would be scored with what was trained on."""
    write_jsonl(tmp_path / "all.jsonl", PAIRS)
    text = """
parts = load_dataset("json", data_files="all.jsonl", split="train").train_test_split(test_size=0.1)
SentenceTransformerTrainer(model, train_dataset=parts["train"].shuffle(seed=1), eval_dataset=parts["test"],
                           loss=losses.CoSENTLoss(model))
"""
    found = of_script(tmp_path, text, monkeypatch)
    assert "evaluation" not in found.tree
    assert said(found).count("train_test_split") == 2  # of the rows to train on, and of those to score


def test_data_sets_and_losses_that_go_by_name_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved data sets were left out without a word, and losses given to data sets in the order of the file."""
    Dataset.from_list(TRIPLETS).save_to_disk(tmp_path / "saved")
    DatasetDict({"train": Dataset.from_list(PAIRS), "test": Dataset.from_list(PAIRS)}).save_to_disk(tmp_path / "dict")
    text = """
sts = load_from_disk("dict")["train"]
faq = load_from_disk("saved")
guide = SentenceTransformer("ORG/GUIDE")
train_dataset = {"faq": faq, "sts": sts}
loss = {"sts": losses.CoSENTLoss(model, scale=50), "faq": losses.MatryoshkaLoss(model,
        losses.GISTEmbedLoss(model, guide), [384, 64])}
SentenceTransformerTrainer(model=model, train_dataset=train_dataset, loss=loss,
    args=SentenceTransformerTrainingArguments(per_device_train_batch_size=16, max_steps=3,
        prompts={"faq": {"anchor": "Q: ", "positive": "D: "}, "sts": "S: "}))
best = SentenceTransformer("runs/best")
"""
    found = of_script(tmp_path, text, monkeypatch)
    assert task(found, 0, "name", "path", "kind", "loss") == {
        "name": "faq", "path": "saved", "kind": "retrieval", "loss": "info_nce",
    }  # fmt: skip
    assert task(found, 1, "name", "path", "kind", "loss") == {
        "name": "sts", "path": "dict", "kind": "sts", "loss": "cosent",
    }  # fmt: skip
    assert task(found, 0, "prompts", "negatives") == {
        "prompts": {"query": "Q: ", "document": "D: "}, "negatives": {"guide": True, "per_query": 2},
    }  # fmt: skip
    assert task(found, 1, "prompts") == {"prompts": {"query": "S: "}}
    assert (found.tree["model"]["name_or_path"], found.tree["guide"]) == ("ORG/MODEL", {"name_or_path": "ORG/GUIDE"})
    assert found.tree["loss"] == {"balance": "homogeneous", "cosent_temperature": 0.02, "temperature": 0.01}
    assert found.tree["data"] == {"batch": 16}  # one data set a batch there: its size is not multiplied by the tasks
    assert "trained with CoSENTLoss, too" in said(found)
    assert "faq has one prompt for its documents" in said(found)  # negatives had none


@pytest.mark.parametrize(
    ("rows", "loss", "columns"),
    [
        ([{"question": "q", "answer": "p", "bad": "n"}], "MultipleNegativesRankingLoss",
         {"query": "question", "positive": "answer", "negative": ["bad"]}),
        ([{"left": "q", "right": "p", "label": 0.5}], "CoSENTLoss", {"text1": "left", "text2": "right"}),
    ],
)  # fmt: skip
def test_columns_have_their_places_as_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], loss: str, columns: dict[str, Any]
) -> None:
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    text = f"""
data = load_dataset("parquet", data_files={{"train": "rows.parquet"}})["train"]
SentenceTransformerTrainer(model=model, train_dataset=data, loss=losses.{loss}(model))
"""
    found = of_script(tmp_path, text, monkeypatch)
    assert task(found, 0, "columns") == {"columns": columns}
    if "bad" in rows[0]:
        assert task(found, 0, "negatives") == {"negatives": {"per_query": 1}}


def test_a_data_set_in_several_configurations_is_a_task_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names were the same, and so the script ended in an error, also where it loads the same rows twice."""
    text = """
pairs = load_dataset("ORG/all-nli", "pair", split="train")
triplets = load_dataset("ORG/all-nli", "triplet", split="train[:50%]")
more = load_dataset("ORG/all-nli", "triplet", split="train[50%:]")
SentenceTransformerTrainer(model, train_dataset=concatenate_datasets([pairs, triplets, more]),
                           loss=losses.MultipleNegativesRankingLoss(model))
"""
    found = of_script(tmp_path, text, monkeypatch)
    assert [(one["name"], one["config_name"]) for one in found.tree["tasks"]] == [
        ("all-nli-pair", "pair"), ("all-nli-triplet", "triplet"),
    ]  # fmt: skip


def test_every_file_of_a_data_set_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several files are one task: columns and negatives have to be those of all of them."""
    write_jsonl(tmp_path / "a.jsonl", [{"left": "q", "right": "p", "bad": "n"}])
    write_jsonl(tmp_path / "b.jsonl", [{"left": "q", "right": "p", "bad": "n"}, {"left": "q", "right": 3, "bad": "n"}])
    text = """
data = load_dataset("json", data_files=["a.jsonl", "b.jsonl", "away.jsonl"], split="train")
SentenceTransformerTrainer(model=model, train_dataset=data, loss=losses.MultipleNegativesRankingLoss(model))
"""
    broken = of_script(tmp_path, text, monkeypatch)
    assert "away.jsonl: differs (tasks.NAME.path): not found from here" in said(broken)
    assert "b.jsonl:1: differs" in said(broken)  # no names fit all files, so none are given
    write_jsonl(tmp_path / "b.jsonl", [{"left": "q", "right": "p", "bad": "n"}])
    found = of_script(tmp_path, text, monkeypatch)
    assert task(found, 0, "path", "columns", "negatives") == {
        "path": ["a.jsonl", "b.jsonl", "away.jsonl"],
        "columns": {"query": "left", "positive": "right", "negative": ["bad"]}, "negatives": {"per_query": 1},
    }  # fmt: skip


def test_lengths_prompts_and_pooling_are_those_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`model.max_seq_length = 128` was passed over, and so was a model that is put together from modules."""
    write_jsonl(tmp_path / "rows.jsonl", TRIPLETS)
    text = """
word = models.Transformer("ORG/PLAIN", max_seq_length=256)
model = SentenceTransformer(modules=[word, models.Pooling(word.get_word_embedding_dimension(), pooling_mode="cls")])
model.max_seq_length = 128
data = load_dataset("json", data_files="rows.jsonl", split="train[:50%]")
SentenceTransformerTrainer(model=model, train_dataset=data, loss=losses.MultipleNegativesRankingLoss(model, 40),
    args=SentenceTransformerTrainingArguments(max_steps=1, prompts="text: ", report_to="none"))
"""
    found = of_script(tmp_path, text, monkeypatch)
    assert found.tree["model"] == {"name_or_path": "ORG/PLAIN", "pooling": "cls", "max_length": 128}
    assert task(found, 0, "prompts") == {"prompts": {"query": "text: ", "document": "text: "}}
    assert (found.tree["loss"], found.tree["report"]) == ({"temperature": 0.025}, {"trackers": []})
    assert "split train[:50%]" in said(found)


def test_a_length_that_is_not_given_is_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "rows.jsonl", TRIPLETS)
    from sentence_transformers import SentenceTransformer

    made = SentenceTransformer(str(make_model(tmp_path / "plain")))
    made.max_seq_length = 48
    made.save(str(tmp_path / "folder"))
    text = """
model = SentenceTransformer("folder")
data = load_dataset("json", data_files="rows.jsonl", split="train")
SentenceTransformerTrainer(model=model, train_dataset=data, loss=losses.MultipleNegativesRankingLoss(model))
"""
    assert of_script(tmp_path, text, monkeypatch).tree["model"] == {"name_or_path": "folder", "max_length": 48}
    text = text.replace('"folder"', '"ORG/OTHER"')
    assert "there the length of the model's folder, here 512" in said(of_script(tmp_path, text, monkeypatch))


def test_what_is_computed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "rows.jsonl", TRIPLETS)
    text = """
data = load_dataset("json", data_files="rows.jsonl", split="train")
evaluator = InformationRetrievalEvaluator(queries(), corpus(), qrels())
SentenceTransformerTrainer(model=model, train_dataset=mixed(data), loss=losses.SoftmaxLoss(model, 384, 3),
                           evaluator=evaluator)
"""
    words = said(of_script(tmp_path, text, monkeypatch))
    assert "train_dataset, line 8: computed, so the recipe has every data set" in words
    assert "InformationRetrievalEvaluator, line 7: its data is made in the script; write it to files" in words
    assert "SoftmaxLoss: no counterpart" in words


def test_a_converted_script_trains_with_the_losses_of_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows, columns by place, prompts, lengths and hard negatives: only then are the losses equal."""
    from sentence_transformers import SentenceTransformer

    from harness import Recipe, train

    SentenceTransformer(str(make_model(tmp_path / "plain", dropout=0.0))).save(str(tmp_path / "model"))
    rows = [
        {"left": f"aral btin {i}", "right": f"csul {i} dven", "bad": f"edip {i}", "bad2": f"{i} fmok"} for i in range(8)
    ]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    text = """
from sentence_transformers import SentenceTransformerTrainingArguments
model = SentenceTransformer("model")
data = load_dataset("parquet", data_files="rows.parquet", split="train")
loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=4, scale=15)
args = SentenceTransformerTrainingArguments(output_dir="there", max_steps=2, per_device_train_batch_size=8,
    learning_rate=1e-3, prompts={"left": "a: ", "right": "b: ", "bad": "b: ", "bad2": "b: "}, logging_steps=1,
    save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=data, loss=loss)
trainer.train()
"""
    found = of_script(tmp_path, text, monkeypatch)
    names: dict[str, Any] = {}
    text = HEAD.replace('model = SentenceTransformer("ORG/MODEL")', "") + text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(text.replace('"rows.parquet"', f'"{tmp_path}/rows.parquet"'), names)
    theirs = [row["loss"] for row in names["trainer"].state.log_history if "loss" in row]
    tree = yaml.safe_load(yaml.safe_dump(found.tree)) | {"output": str(tmp_path / "here")}
    ours = [row["loss"] for row in train(Recipe.from_dict(tree)).metrics]
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[0] != pytest.approx(ours[1], rel=1e-3)


def test_a_recipe_in_another_folder_names_the_data_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's paths are those of where it is started, a recipe's those beside it: plan found no such file."""
    write_jsonl(tmp_path / "data" / "rows.jsonl", TRIPLETS)
    write_jsonl(tmp_path / "data" / "dev.jsonl", PAIRS)
    (tmp_path / "recipes").mkdir()
    text = """
rows = load_dataset("json", data_files="data/rows.jsonl", split="train")
held_out = load_dataset("json", data_files="data/dev.jsonl", split="train")
SentenceTransformerTrainer(model, train_dataset=rows, eval_dataset=held_out,
                           loss=losses.MultipleNegativesRankingLoss(model))
"""
    of_script(tmp_path, text, monkeypatch)
    done = invoke("convert", "train.py", "--out", "recipes/r.yaml")
    assert done.exit_code == 0, done.output
    tree = yaml.safe_load((tmp_path / "recipes" / "r.yaml").read_text())
    assert tree["tasks"][0]["path"] == "../data/rows.jsonl"
    assert tree["evaluation"]["data"] == ["../data/dev.jsonl"]
