"""Other trainers' arguments as recipes: every argument is converted or named, and the page has the same tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config import check_tree
from harness.conversion.arguments.sentence_transformers import LOSSES_THERE
from harness.conversion.arguments.table import losses_markdown, markdown
from harness.conversion.convert import TABLES, Converted, convert
from harness.conversion.given.read import read_given
from tests.tiny import write_jsonl
from tests.unit.cli.command_line import invoke

ROOT = Path(__file__).parents[3]
DRAWN = {"per_query": 7, "draw": "random"}  # of a group of 8, as these trainers draw them
FLAG_EMBEDDING = r"""
export WANDB_MODE=disabled
train_data="\
    {data} \
    {data_own} "
num_train_epochs=2
cmd="torchrun --nproc_per_node 4 \
    -m FlagEmbedding.finetune.embedder.encoder_only.base \
    --model_name_or_path BAAI/bge-base-zh-v1.5 --cache_dir $HOME/cache \
    --train_data $train_data --train_group_size 8 \
    --query_max_len 64 --passage_max_len 256 --same_dataset_within_batch True --knowledge_distillation False \
    --query_instruction_for_retrieval 'Represent this: ' \
    --query_instruction_format '{{}}{{}}' --learning_rate 1e-5 \
    --output_dir ./test_encoder --num_train_epochs $num_train_epochs \
    --per_device_train_batch_size 2 --warmup_ratio 0.1 --gradient_checkpointing \
    --deepspeed ds_stage1.json --save_steps 1000 --temperature 0.03 --bf16 \
    --sentence_pooling_method last_token --gradient_accumulation_steps 2 --warmup_stepz 3"
eval $cmd
"""
SCRIPT = """
from sentence_transformers import SentenceTransformer, losses
name = "microsoft/mpnet-base"
model = SentenceTransformer(name)
train = load_dataset("json", data_files="pairs.jsonl", split="train")
inner = losses.CachedMultipleNegativesSymmetricRankingLoss(model, mini_batch_size=16, scale=50.0)
loss = losses.MatryoshkaLoss(model, inner, matryoshka_dims=[768, 128, 64], matryoshka_weights=[1, 2, 3])
args = SentenceTransformerTrainingArguments(output_dir=f"models/{name}", max_steps=100, warmup_steps=10,
    per_device_train_batch_size=8, fp16=True, batch_sampler=BatchSamplers.NO_DUPLICATES, logging_steps=every())
"""


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    rows = [{"query": f"q{i}", "pos": [f"p{i}"], "neg": ["n"]} for i in range(3)]
    return str(write_jsonl(tmp_path / "a.jsonl", rows)), str(write_jsonl(tmp_path / "b_no_in_batch_neg.jsonl", rows))


def said(converted: Converted) -> dict[str, str]:
    return {remark.argument: remark.verdict for remark in converted.remarks}


def converted(folder: Path, name: str, text: str, **options: Any) -> Converted:
    (folder / name).write_text(text)
    found = convert(read_given([str(folder / name)], options.pop("trainer", None)), **options)
    check_tree(found.tree, "converted", folder)  # whatever is converted is a recipe
    return found


def test_a_shell_script_of_flag_embedding_becomes_a_recipe(tmp_path: Path, data: tuple[str, str]) -> None:
    found = converted(tmp_path, "run.sh", FLAG_EMBEDDING.format(data=data[0], data_own=data[1]))
    tree = found.tree
    assert found.ranks == 4
    # A step of theirs is 16 rows of one file: a quota of 16 each would be steps of 32 here.
    assert tree["data"] == {"batch": 16}
    assert [(task["path"], task["share"]) for task in tree["tasks"]] == [(data[0], "auto"), (data[1], "auto")]
    assert [task["negatives"] for task in tree["tasks"]] == [DRAWN, {"scope": "own", **DRAWN}]
    assert tree["tasks"][0]["prompts"] == {"query": "Represent this: "}
    assert tree["model"] == {
        "name_or_path": "BAAI/bge-base-zh-v1.5", "pooling": "last", "max_length": 256, "query_max_length": 64,
        "document_max_length": 256, "normalize": True, "gradient_checkpointing": True,
    }  # fmt: skip
    assert tree["training"] == {
        "epochs": 2.0, "weight_decay": 0.0, "learning_rate": 1e-5, "precision": "bf16", "warmup_ratio": 0.1,
        "epoch_of": "a",
    }  # fmt: skip
    assert tree["loss"] == {"balance": "homogeneous", "temperature": 0.03}
    assert (tree["deepspeed"], tree["output"], tree["checkpoint"]) == ("zero1", "./test_encoder", {"every": 1000})
    assert said(found)["warmup_stepz"] == "none"
    assert "did you mean warmup_steps?" in str(next(r for r in found.remarks if r.argument == "warmup_stepz"))
    assert said(found)["cache_dir"] == "none"
    assert said(found)["negatives_cross_device"] == "differs"  # not given: their default


def test_a_training_script_is_read_and_not_run(tmp_path: Path) -> None:
    found = converted(tmp_path, "train.py", "raise SystemExit(3)\n" + SCRIPT, ranks=2)
    tree = found.tree
    assert tree["model"]["name_or_path"] == "microsoft/mpnet-base"
    assert tree["model"]["matryoshka_dims"] == [64, 128, 768]
    assert tree["model"]["matryoshka_weights"] == [3, 2, 1]
    assert tree["tasks"] == [
        {"name": "pairs", "kind": "retrieval", "path": "pairs.jsonl", "quota": 16, "loss": "info_nce",
         "negatives": {"symmetric": True}}
    ]  # fmt: skip
    assert tree["loss"]["temperature"] == pytest.approx(0.02)
    assert tree["training"]["warmup_ratio"] == pytest.approx(0.1)
    assert tree["training"]["precision"] == "fp16"
    assert any("logging_steps, line 10: computed (every())" in str(remark) for remark in found.remarks)


def test_flag_embedding_trains_decoders_with_lora_unless_told_not_to(data: tuple[str, str]) -> None:
    """Without its defaults such a command became a training of all weights, without a word."""
    words = "torchrun -m FlagEmbedding.finetune.embedder.{}_only.base --model_name_or_path m --train_data {} {}"
    made = {
        case: convert(read_given(words.format(case[0], data[0], case[1]).split(), None)).tree["model"].get("lora")
        for case in (("decoder", ""), ("decoder", "--use_lora False"), ("encoder", ""), ("decoder", "--lora_rank 8"))
    }
    decoder = made["decoder", ""]
    assert {**decoder, "target_modules": len(decoder["target_modules"])} == {
        "rank": 64, "alpha": 16, "dropout": 0.1, "target_modules": 7
    }  # fmt: skip
    assert made["decoder", "--lora_rank 8"] == decoder | {"rank": 8}
    assert made["decoder", "--use_lora False"] is made["encoder", ""] is None


OF_THEIR_DOCUMENTATION = """
model = SentenceTransformer("microsoft/mpnet-base")
model.max_seq_length = 128
train = load_dataset("sentence-transformers/all-nli", "triplet", split="train[:100000]")
dev = load_dataset("sentence-transformers/all-nli", "triplet", split="dev")
own = load_dataset("json", data_files={"train": "own.jsonl", "test": "held_out.jsonl"}).shuffle(seed=1)
args = SentenceTransformerTrainingArguments("models/nli", max_steps=1000, warmup_steps=0.1,
    prompts={"anchor": "q: ", "positive": "d: ", "negative_1": "d: "})
loss = {"nli": losses.MultipleNegativesRankingLoss(model, 30), "own": losses.CoSENTLoss(model, scale=20)}
SentenceTransformerTrainer(model, args, train_dataset={"nli": train, "own": own["train"]}, eval_dataset=dev, loss=loss)
"""


def test_a_script_as_sentence_transformers_documents_it_trains_on_no_held_out_data(tmp_path: Path) -> None:
    """Every `load_dataset` was taken for training data, without its configuration; what stands by its place in a call
    (scale, output_dir), a length set on the model, and prompts were left out without a word."""
    found = converted(tmp_path, "train.py", OF_THEIR_DOCUMENTATION, ranks=1)
    nli, own = found.tree["tasks"]
    assert (nli["path"], nli["config_name"], "split" in nli) == ("sentence-transformers/all-nli", "triplet", False)
    assert nli["prompts"] == {"query": "q: ", "document": "d: "}
    assert (own["path"], own["kind"]) == ("own.jsonl", "sts")
    assert found.tree["output"] == "models/nli"
    assert found.tree["model"]["max_length"] == 128
    assert found.tree["training"]["warmup_ratio"] == 0.1  # a share in transformers 5, not a tenth of a step
    assert found.tree["loss"] == {"balance": "homogeneous", "temperature": 1 / 30, "cosent_temperature": 0.05}
    lines = "\n".join(map(str, found.remarks))
    for words in (
        "train_data sentence-transformers/all-nli: differs (tasks.NAME.path): the script changes the rows (split train",
        "evaluation sentence-transformers/all-nli: differs (evaluation.data): a file or folder is scored",
        "held_out.jsonl: loaded, but neither trained on nor scored there; to score it, name it in evaluation.data",
    ):
        assert words in lines
    assert "prompts {" in lines


def test_prompts_of_columns_that_are_neither_queries_nor_documents_are_said(tmp_path: Path) -> None:
    """Without the data, its first column is not known: the first prompt was taken for that of queries."""
    script = OF_THEIR_DOCUMENTATION.replace('"anchor"', '"headline"')
    found = converted(tmp_path, "train.py", script, ranks=1)
    assert "prompts" not in found.tree["tasks"][0]
    assert "which columns of nli are queries is not known without its data" in "\n".join(map(str, found.remarks))
    script = OF_THEIR_DOCUMENTATION.replace('"anchor": "q: ", ', "")  # of documents alone
    found = converted(tmp_path, "train.py", script, ranks=1)
    assert found.tree["tasks"][0]["prompts"] == {"query": "", "document": "d: "}


def test_arguments_as_json_and_a_command_line_of_tevatron(tmp_path: Path, data: tuple[str, str]) -> None:
    arguments = {"model_name_or_path": "m", "train_data": data[0], "loss": "CoSENTLoss", "max_steps": 5, "scale": 20}
    write_jsonl(Path(data[0]), [{"sentence1": "a", "sentence2": "b", "score": 1.0}])
    found = converted(tmp_path, "arguments.json", json.dumps(arguments), trainer="sentence-transformers")
    assert found.tree["tasks"][0] | {"path": ""} == {
        "name": "a",
        "kind": "sts",
        "path": "",
        "quota": 8,
        "loss": "cosent",
    }
    assert found.tree["loss"] == {"cosent_temperature": 0.05}
    words = (
        "deepspeed --include localhost:0,1 --module tevatron.retriever.driver.train --deepspeed z/ds_zero3_config.json"
    )
    words += " --model_name_or_path m --dataset_path d.jsonl --query_prefix q: --pooling eos --max_steps 4 --grad_cache"
    words += " --lora --lora_r 8 --lora_target_modules q_proj,v_proj --append_eos_token"
    found = convert(read_given(words.split(), None))
    assert (found.ranks, found.tree["deepspeed"]) == (2, "zero3")
    lora = {
        "rank": 8,
        "alpha": 64,
        "dropout": 0.1,
        "target_modules": ["q_proj", "v_proj"],
    }  # two of them their defaults
    assert found.tree["model"]["lora"] == lora
    assert found.tree["model"]["append_eos"] is True
    assert found.tree["loss"]["temperature"] == 1.0
    assert found.tree["tasks"][0]["negatives"] == DRAWN  # their default group of 8
    found = convert(read_given([*words.split(), "--negative_passage_no_shuffle"], None))
    assert found.tree["tasks"][0]["negatives"] == {"per_query": 7, "draw": "ranked"}
    assert said(found)["grad_cache"] == "none"


@pytest.mark.parametrize(
    ("words", "corpus"),
    [("--corpus_name c", "c"), ("--corpus_name json --corpus_path c.jsonl", "c.jsonl"), ("", None)],
)
def test_tevatrons_corpus_is_the_tasks(words: str, corpus: str | None) -> None:
    given = f"python -m tevatron.retriever.driver.train --model_name_or_path m --dataset_path d.jsonl {words}"
    assert convert(read_given(given.split(), None)).tree["tasks"][0].get("corpus") == corpus


def test_several_data_sets_of_sentence_transformers_share_its_batch(tmp_path: Path) -> None:
    """A batch of theirs is of one data set, drawn by size, also where the sampler is not named."""
    arguments = {"model_name_or_path": "m", "train_data": ["o/a", "o/b"], "loss": "MultipleNegativesRankingLoss"}
    found = converted(tmp_path, "arguments.json", json.dumps(arguments), trainer="sentence-transformers", ranks=4)
    assert (found.tree["data"], found.tree["loss"]["balance"]) == ({"batch": 32}, "homogeneous")
    assert [task["share"] for task in found.tree["tasks"]] == ["auto", "auto"]
    arguments["multi_dataset_batch_sampler"] = "round_robin"
    found = converted(tmp_path, "arguments.json", json.dumps(arguments), trainer="sentence-transformers", ranks=4)
    assert (found.tree["loss"]["balance"], [task["quota"] for task in found.tree["tasks"]]) == ("alternate", [32, 32])


def test_a_loss_is_of_sentence_transformers_only(tmp_path: Path) -> None:
    """Other trainers have no such argument: said to be converted, it would be converted into nothing."""
    arguments = {"model_name_or_path": "m", "train_data": "d.jsonl", "loss": "CoSENTLoss"}
    found = converted(tmp_path, "arguments.json", json.dumps(arguments), trainer="FlagEmbedding")
    assert "loss CoSENTLoss: no counterpart: unknown here" in "\n".join(map(str, found.remarks))
    assert "loss" not in found.tree["tasks"][0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.json", '{"zero_optimization": {}}', "got a DeepSpeed JSON, which names no model"),
        ("x.json", '{"learning_rate": 1}', "got arguments of no trainer that is known"),
        ("x.json", "[1]", "expected an object of arguments"),
        ("x.py", "x = 1", "got no SentenceTransformer, no loss and no training arguments"),
        ("x.py", "x = (", "expected Python"),
        ("x.sh", "echo hello", "got no command"),
        ("x.sh", 'echo "open\n' + "a=1 # more\n" * 4000, "expected closed quotes"),  # in the time of one reading
        ("x.sh", "torchrun -m FlagEmbedding.x --train_data d", "model_name_or_path: got none"),
        ("x.sh", "torchrun -m FlagEmbedding.x --model_name_or_path m", "train_data: got none"),
        ("x.sh", "torchrun -m FlagEmbedding.x --train_data $DATA --model_name_or_path m", "a variable that is not set"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    done = invoke("convert", str(tmp_path / name))
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert done.output.count("\n") == 1


def test_data_that_is_there_is_looked_at(tmp_path: Path) -> None:
    odd = write_jsonl(tmp_path / "odd.jsonl", [{"question": "a", "answer": "b"}])
    words = f"python -m FlagEmbedding.x --model_name_or_path m --train_data {odd}".split()
    found = convert(read_given(words, None))
    (remark,) = [r for r in found.remarks if r.argument == "train_data" and r.value != str(odd)]
    assert "expected" in str(remark)


def test_the_command_writes_a_recipe_with_its_remarks_and_replaces_none(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    out = tmp_path / "recipe.yaml"
    assert invoke("convert", str(tmp_path / "train.py"), "--out", str(out)).exit_code == 0
    text = out.read_text()
    assert "#   batch_sampler no_duplicates: no counterpart" in text
    assert yaml.safe_load(text)["name"] == "mpnet-base"
    done = invoke("convert", str(tmp_path / "train.py"), "--out", str(out))
    assert (done.exit_code, "--overwrite" in done.output) == (2, True)


def test_every_argument_and_loss_of_the_installed_libraries_has_a_row() -> None:
    """A new version's argument would be called unknown, as a mistake is."""
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments

    ours = {row.argument for row in TABLES["sentence-transformers"]}
    assert {field.name for field in dataclasses.fields(SentenceTransformerTrainingArguments)} - ours == set()
    assert {name for name in dir(losses) if name.endswith("Loss")} - set(LOSSES_THERE) == set()
    for table in TABLES.values():
        assert len({row.argument for row in table}) == len(table)


def test_the_page_has_the_tables_of_the_command() -> None:
    page = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    for trainer, table in TABLES.items():
        assert markdown(table) in page, (
            f"docs/coming_from.md: write the table of {trainer} anew: python -m tests.unit.conversion.page"
        )
    assert losses_markdown(LOSSES_THERE) in page
