"""The prompt before a text depends on its role, its row, its kind of data, and on what model, recipe and user say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.config import inference_prompts, load_recipe, prompt_notes, with_folder_prompts
from harness.encoder.stored_prompts import prompts_of_folder
from harness.evaluation.config import EvaluationConfig
from harness.prompts import ModelPrompts, PromptChoice, Prompts
from harness.prompts.known_families import usual_prompts
from harness.prompts.notes import command_warnings
from harness.prompts.run_prompts import TaskPrompts, differences, prompts_of_run
from tests.tiny import make_model
from tests.unit.encoder.models import change_json

FOLDERS: list[tuple[dict[str, Any], str | None]] = [
    ({"query": "aral ", "document": "btin "}, None),
    ({"query": "aral ", "document": None, "passage": None}, None),
    ({"retrieval": "cmok "}, "retrieval"),
    ({"query": "aral ", "STS": "dsul "}, "query"),
    ({}, None),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A sentence-transformers folder without prompts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    folder = tmp_path_factory.mktemp("saved")
    modules = [Transformer(str(make_model(folder / "backbone")), max_seq_length=24), Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "st"))
    return folder / "st"


def write_folder(saved: Path, out: Path, prompts: dict[str, Any], default: str | None = None) -> Path:
    shutil.copytree(saved, out)
    file = out / "config_sentence_transformers.json"
    facts = {**json.loads(file.read_text()), "prompts": prompts, "default_prompt_name": default}
    file.write_text(json.dumps(facts))
    return out


def task(name: str, kind: Any, query: str, document: str = "") -> TaskPrompts:
    return TaskPrompts(name, kind, Prompts(query, document))


def write_recipe(folder: Path, base: Path, **sections: str) -> Any:
    tasks = sections.pop("tasks", "- {name: a, kind: retrieval, path: a.jsonl, quota: 1}")
    lines = [f"name: r\nmodel: {{name_or_path: {base}{sections.pop('model', '')}}}\ntasks:\n{tasks}"]
    lines += ["training: {steps: 1, learning_rate: 1.0e-3}", *(f"{name}: {text}" for name, text in sections.items())]
    (folder / "recipe.yaml").write_text("\n".join(lines) + "\n")
    return load_recipe(str(folder / "recipe.yaml")).config


def test_a_rows_own_prompt_stands_before_the_texts_that_it_is_stored_with() -> None:
    prompts = Prompts("q: ", "d: ", "s: ")
    assert [prompts.before(role) for role in ("query", "document", "sentence")] == ["q: ", "d: ", "s: "]
    assert prompts.before("query", "own: ") == "own: "
    assert prompts.before("query", "") == ""  # an empty prompt means that this query has none
    assert prompts.before("document", "own: ") == "own: "  # stored with a document only by symmetric tasks


def test_a_sentence_without_a_prompt_of_its_own_takes_the_querys() -> None:
    assert Prompts("q: ").before("sentence") == "q: "
    assert Prompts("q: ", sentence="").before("sentence") == ""


@pytest.mark.parametrize(("prompts", "default"), FOLDERS)
def test_each_role_is_embedded_as_sentence_transformers_embeds_it(saved, tmp_path, prompts, default):
    """Compared with encode_query, encode_document and encode, within 1e-5."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from harness.cli.parts.opened_model import open_model

    folder = write_folder(saved, tmp_path / "m", prompts, default)
    model, opened = SentenceTransformer(str(folder), device="cpu"), open_model(str(folder), None, None, "fp32")
    texts = ["eral fven", "gtin"]
    for role, encode in (
        ("query", model.encode_query),
        ("document", model.encode_document),
        ("sentence", model.encode),
    ):
        row_BD = opened.encode(texts, role)
        np.testing.assert_allclose(row_BD / np.linalg.norm(row_BD, axis=1, keepdims=True), encode(texts), atol=1e-5)


def test_a_document_prompt_called_passage_is_used_although_encode_document_drops_it():
    prompts = ModelPrompts({"query": "q: ", "passage": "d: "})
    assert prompts.of_kind("retrieval") == Prompts("q: ", "d: ", "")
    (warning,) = command_warnings(prompts, PromptChoice(), {"a": "retrieval"}, {"a": prompts.of_kind("retrieval")})
    assert "passage" in warning
    assert "encode_document" in warning


def test_each_kind_of_data_has_mtebs_name_and_falls_back_to_the_default():
    prompts = ModelPrompts({"query": "q: ", "Reranking-query": "r: ", "STS": "s: ", "base": "x: "}, "base")
    assert prompts.of_kind("reranking").query == "r: "
    assert prompts.of_kind("retrieval").query == "q: "
    assert prompts.of_kind("sts").sentence == "s: "
    assert prompts.of_kind("clustering").sentence == "x: "


@pytest.mark.parametrize(
    ("stored", "default", "message"),
    [
        (["q: "], None, r"^FILE: prompts: got \['q: '\], expected texts by name"),
        ({"query": 5}, None, r"^FILE: prompts: got .*, expected texts by name"),
        ({"query": "q: "}, "other", r"^FILE: default_prompt_name: got 'other', expected one of the prompts \(query\)"),
    ],
)
def test_prompts_of_a_folder_that_are_no_texts_by_name_are_refused(stored, default, message):
    with pytest.raises(ValueError, match=message):
        ModelPrompts.of_folder(stored, default, "FILE")


def test_tasks_that_agree_give_roles_and_others_their_names():
    """F04: the document prompt is stored by role, the query prompts by task. `a-document`: mteb looks there first."""
    tasks = [task("a", "retrieval", "Kitchen: ", "d: "), task("b", "retrieval", "Travel: ", "d: ")]
    by_name = {"a": "Kitchen: ", "b": "Travel: ", "a-document": "d: ", "b-document": "d: "}
    prompts = prompts_of_run(tasks, ModelPrompts())
    assert prompts.named == {"document": "d: ", **by_name}
    assert prompts.chosen("retrieval", PromptChoice(name="b")) == Prompts("Travel: ", "d: ", "Travel: ")
    assert prompts.chosen("retrieval", PromptChoice()) == Prompts("", "d: ", "")
    (line,) = differences(tasks)
    assert line.startswith("prompts: retrieval tasks a, b differ in their query prompt: ")
    assert "set evaluation.query_prompt, or give evaluation.data as {path: ..., prompt_name: a}" in line
    settled = prompts_of_run(tasks, ModelPrompts(), query_prompt="e: ")
    assert settled.named == {"query": "e: ", "document": "d: ", **by_name}
    assert not differences(tasks, query_prompt="e: ")


def test_an_exported_folder_reads_back_as_the_run_itself():
    tasks = [task("a", "retrieval", "x: ", "d: "), task("b", "retrieval", "y: "), task("s", "sts", "s: ")]
    run = prompts_of_run(tasks, ModelPrompts())
    folder = ModelPrompts.of_folder(dict(run.named), run.default_name, "FILE")
    for kind in ("retrieval", "reranking", "sts", "pair_classification", "classification", "clustering", None):
        assert folder.of_kind(kind) == run.of_kind(kind)
        for name in ("a", "b"):
            assert folder.chosen(kind, PromptChoice(name=name)) == run.chosen(kind, PromptChoice(name=name))


def test_sentences_are_stored_under_the_names_of_the_kinds_they_resemble():
    sts, classes = task("s", "sts", "s: "), task("c", "classification", "c: ")
    both = {"STS": "s: ", "PairClassification": "s: ", "Classification": "c: ", "Clustering": "c: "}
    assert prompts_of_run([sts, classes], ModelPrompts()).named == both
    assert prompts_of_run([sts], ModelPrompts()).named == dict.fromkeys(both, "s: ")
    start = ModelPrompts({"Clustering": "own: ", "query": "q: ", "sentence": "old: "})
    assert prompts_of_run([sts], start).named["Clustering"] == "own: "
    assert prompts_of_run([sts, task("t", "sts", "t: ")], ModelPrompts()).named == {"s": "s: ", "t": "t: "}
    assert prompts_of_run([task("a", "retrieval", "")], start).named == {"Clustering": "own: ", "sentence": "old: "}


def test_a_task_called_like_a_role_is_refused_where_its_name_must_be_stored():
    tasks = [task("query", "retrieval", "x: "), task("b", "retrieval", "y: ")]
    with pytest.raises(ValueError, match=r"^tasks\.query: got a name that means a role"):
        prompts_of_run(tasks, ModelPrompts())
    assert prompts_of_run(tasks[:1], ModelPrompts()).named == {"query": "x: "}


def test_what_a_recipe_leaves_open_comes_from_the_models_folder(saved, tmp_path):
    model = write_folder(saved, tmp_path / "m", {"query": "q: ", "document": "d: ", "STS": "s: ", "own": "o: "}, "own")
    tasks = (
        "  - {name: a, kind: retrieval, path: a.jsonl, quota: 1}\n"
        "  - {name: b, kind: retrieval, path: a.jsonl, quota: 1, prompts: {query: '', document: ''}}\n"
        "  - {name: s, kind: sts, path: s.jsonl, quota: 1}\n"
        "  - {name: c, kind: classification, path: c.jsonl, quota: 1, negatives: {per_query: 1}}"
    )
    recipe = write_recipe(tmp_path, model, tasks=tasks)
    filled = with_folder_prompts(recipe)
    got = [(task.prompts.query, task.prompts.document) for task in filled.tasks]
    assert got == [("q: ", "d: "), ("", ""), ("s: ", ""), ("o: ", "")]
    assert with_folder_prompts(filled) == filled
    lines, _ = prompt_notes(recipe, filled)
    assert lines[:2] == ['task a: query prompt "q: ", document prompt "d: " (the model\'s)', "task b: no prompt"]
    stored = inference_prompts(filled)
    assert (stored.default_name, stored.named["own"], stored.named["STS"]) == ("own", "o: ", "s: ")


def test_a_recipe_without_prompts_of_its_own_exports_its_folders(saved, tmp_path):
    named = {"query": "q: ", "document": "d: ", "Clustering": "c: "}
    filled = with_folder_prompts(write_recipe(tmp_path, write_folder(saved, tmp_path / "m", named)))
    assert inference_prompts(filled).named == named


def test_the_default_prompt_goes_where_every_task_has_other_prompts(saved, tmp_path):
    model = write_folder(saved, tmp_path / "m", {"own": "o: "}, "own")
    tasks = "  - {name: a, kind: retrieval, path: a.jsonl, quota: 1, prompts: {query: 'x: '}}"
    assert inference_prompts(with_folder_prompts(write_recipe(tmp_path, model, tasks=tasks))).default_name is None
    kept = with_folder_prompts(write_recipe(tmp_path, model, tasks=tasks, model=", default_prompt_name: own"))
    assert inference_prompts(kept).default_name == "own"


def test_the_guide_has_the_prompts_of_its_own_folder(saved, tmp_path):
    guide = write_folder(saved, tmp_path / "g", {"query": "q: ", "document": "d: ", "Classification": "c: "})
    tasks = "  - {name: a, kind: retrieval, path: a.jsonl, quota: 1, negatives: {guide: true}}"
    filled = with_folder_prompts(write_recipe(tmp_path, saved, tasks=tasks, guide=f"{{name_or_path: {guide}}}"))
    assert filled.guide is not None
    assert filled.guide.prompts.to_prompts() == Prompts("q: ", "d: ", "c: ")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("intfloat/e5-base-v2", "e5"),
        ("models/multilingual-e5-large/", "e5"),
        ("/cache/models--intfloat--e5-small/snapshots/0123", "e5"),
        ("nomic-ai/nomic-embed-text-v1.5", "nomic-embed-text"),
        ("BAAI/bge-large-zh-v1.5", "bge (Chinese)"),
        ("intfloat/multilingual-e5-large-instruct", None),
        ("intfloat/e5-mistral-7b-instruct", None),
        ("BAAI/bge-m3", None),
        ("sentence-transformers/all-MiniLM-L6-v2", None),
    ],
)
def test_a_name_hints_at_the_prompts_of_its_family(name, family):
    hint = usual_prompts([name])
    assert (hint and hint[0]) == family


def test_a_model_of_a_family_with_prompts_is_warned_of_until_prompts_are_set(saved, tmp_path, capsys):
    from harness.cli.parts.opened_model import open_model

    model = write_folder(saved, tmp_path / "m", {})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "_name_or_path": "intfloat/e5-small-v2"}))
    recipe = write_recipe(tmp_path, model)
    _, (warning,) = prompt_notes(recipe, with_folder_prompts(recipe))
    assert 'set model.prompts: {query: "query: ", document: "passage: "}, or {query: ""} if none is meant' in warning
    for setting in (", prompts: {query: 'query: ', document: 'passage: '}", ", prompts: {query: ''}"):
        settled = write_recipe(tmp_path, model, model=setting)
        assert prompt_notes(settled, with_folder_prompts(settled))[1] == []
    open_model(str(model), None, None, "fp32")
    assert 'add --query-prompt "query: " --document-prompt "passage: "' in " ".join(capsys.readouterr().err.split())
    open_model(str(model), None, None, "fp32", PromptChoice(query=""))
    assert "family" not in capsys.readouterr().err
    assert prompts_of_folder(str(model)).is_empty


def test_a_broken_configuration_is_one_line_where_prompts_are_looked_for(saved, tmp_path):
    """It is read for the name of the model, before the preflight."""
    model = write_folder(saved, tmp_path / "m", {})
    (model / "config.json").write_text((model / "config.json").read_text()[:60])
    recipe = write_recipe(tmp_path, model)
    with pytest.raises(ValueError, match=r"config\.json:\d+: got broken JSON .*, expected valid JSON; fetch this file"):
        prompt_notes(recipe, with_folder_prompts(recipe))


def test_a_model_that_is_not_there_is_no_model_without_prompts(tmp_path):
    """Otherwise a finished run whose model was moved seems to be a run of another recipe."""
    with pytest.raises(ValueError, match=r"model.name_or_path: got .*/gone, expected a folder that exists"):
        prompts_of_folder(str(tmp_path / "gone"))


def test_what_embeddings_depend_on_includes_the_tokenizer(saved, tmp_path):
    """mine and filter continue earlier work if nothing that it depends on has changed; lower case is in no weight."""
    from harness.cli.parts.opened_model import open_model

    model = write_folder(saved, tmp_path / "m", {})
    change_json(model / "tokenizer.json", normalizer=None)  # one that lowers case itself is not asked to do so again
    before = open_model(str(model), None, None, "fp32").identity()
    change_json(model / "sentence_bert_config.json", do_lower_case=True)
    assert open_model(str(model), None, None, "fp32").identity() != before


def test_prompts_under_names_that_say_nothing_are_warned_of():
    model = ModelPrompts({"faq": "f: ", "faq-document": "d: "})
    (warning,) = command_warnings(model, PromptChoice(), {"beir": "retrieval"}, {"beir": Prompts()})
    assert (
        "beir: no prompt is used, but the model has prompts called faq; choose one with --prompt-name NAME" in warning
    )
    assert not command_warnings(model, PromptChoice(query=""), {"beir": "retrieval"}, {"beir": Prompts()})


def test_a_data_set_may_name_its_prompts_or_give_them():
    run = prompts_of_run([task("a", "retrieval", "x: "), task("b", "retrieval", "y: ")], ModelPrompts())
    data = ["p", {"path": "p", "prompt_name": "a"}, {"path": "p", "prompts": {"query": "z: ", "document": "d: "}}]
    config = EvaluationConfig.model_validate({"data": data})
    chosen = [run.chosen("retrieval", entry.choice) for entry in config.data]
    assert [(prompts.query, prompts.document) for prompts in chosen] == [("", ""), ("x: ", ""), ("z: ", "d: ")]
    assert EvaluationConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.model_dump(mode="json")["data"][0] == "p"  # as it was written
    assert run.chosen("sts", config.data[2].choice).before("sentence") == "z: "
    with pytest.raises(ValueError, match=r"^evaluation\.data p: prompt_name: got q, expected .* \(a, b, "):
        run.chosen(
            "retrieval", EvaluationConfig.model_validate({"data": [{"path": "p", "prompt_name": "q"}]}).data[0].choice
        )
    with pytest.raises(ValueError, match=r"^--document-prompt: got a document prompt for sts data"):
        run.chosen("sts", PromptChoice(document="d: "))
