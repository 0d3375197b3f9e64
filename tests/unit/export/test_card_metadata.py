"""The card's metadata is what the hub reads: what is known, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.export.card_metadata import base_metadata, front_matter, hub_name

SCORES = [("questions", "ndcg_at_10", None, 0.5), ("pairs", "spearman", 0.25, None)]


def read(text: str) -> dict:
    first, content, rest = text.split("---\n", 2)
    assert (first, rest) == ("", "")
    return yaml.safe_load(content)


def test_scores_stand_in_model_index_where_the_hub_looks_for_them() -> None:
    base = {"base_model": "somebody/model", "language": ["zh"], "license": "mit"}
    found = read(front_matter("small", base, ["a/b", "a/b"], SCORES, {"questions": "retrieval"}))
    assert {key: found[key] for key in base} == base
    assert found["datasets"] == ["a/b"]
    assert (found["library_name"], found["pipeline_tag"]) == ("sentence-transformers", "sentence-similarity")
    [index] = found["model-index"]
    [result] = index["results"]  # the other has no score
    assert (index["name"], result["task"]["type"], result["dataset"]["name"]) == (
        "small",
        "information-retrieval",
        "questions",
    )
    assert result["metrics"] == [{"type": "ndcg_at_10", "value": 0.5, "name": "ndcg_at_10"}]


def test_what_is_not_known_is_left_out() -> None:
    found = read(front_matter("small", {}, [], [], {}))
    assert not {"base_model", "language", "license", "datasets", "model-index"} & found.keys()


@pytest.mark.parametrize("name", ["a\n---\nlicense: mit\n", "a: b", "- a", "{a", "'", "\u2028"])
def test_a_name_brings_no_metadata_of_its_own(name: str) -> None:
    found = read(front_matter(name, {}, [], [(name, name, None, 0.5)], {}))
    assert "license" not in found
    assert found["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5


def test_language_and_license_are_those_of_the_first_models_card(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    assert base_metadata(str(tmp_path)) == {}
    readme.write_text("---\nlanguage: zh\nlicense: mit\nbase_model: a/b\ntags: [x]\n---\n# A\n")
    assert base_metadata(str(tmp_path)) == {"language": "zh", "license": "mit", "base_model": "a/b"}
    readme.write_text("# no metadata\n")
    assert base_metadata(str(tmp_path)) == {}
    readme.write_text("---\na: [\n---\n")
    with pytest.warns(UserWarning, match="the metadata cannot be read"):
        assert base_metadata(str(tmp_path)) == {}


def test_no_folder_of_this_machine_is_taken_for_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [hub_name(name) for name in ("a/b", "mine", "mine/x", "/a/b", "~/a", "runs/x", "./a")] == [
        "a/b",
        *[None] * 6,
    ]


def test_a_path_in_the_first_models_card_is_no_base_model(tmp_path: Path) -> None:
    """It would be published, and a hub takes no such card."""
    found = {}
    for stated in ("/srv/somebody/model", "../model", "[org/one, /srv/two]", "[org/one, org/two]"):
        (tmp_path / "README.md").write_text(f"---\nbase_model: {stated}\n---\n")
        found[stated] = base_metadata(str(tmp_path)).get("base_model")
    assert list(found.values()) == [None, None, "org/one", ["org/one", "org/two"]]
