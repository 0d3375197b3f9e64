"""Real older versions of sentence-transformers load our exports and give the trained embeddings.

On demand, with the network: pytest -p no:xdist -m readers tests/readers. READERS_ENVIRONMENTS names a folder that keeps
the environments (2 GB each) for the next time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.export.readers import TRIED, judge_folder
from tests.readers.environments import difference, encoded, environment
from tests.unit.encoder.models import TEXTS
from tests.unit.export.folders import BACKBONES, PROMPTS, exported, in_the_layout_of_sentence_transformers_5_4

pytestmark = pytest.mark.readers
OLD = [versions for versions in TRIED if versions != TRIED[-1]]  # the last is installed here
BOUND = 1e-5


@pytest.fixture(scope="module", params=OLD, ids=lambda versions: f"{versions[0]}-{versions[1]}")
def old(request, tmp_path_factory):
    """(Python of the environment, its versions)."""
    return environment(request.param, tmp_path_factory.mktemp("environments")), request.param


def row(folder: Path, versions: tuple[str, str]) -> str:
    """What check-export says of this version."""
    [verdict] = judge_folder(folder, [f"sentence-transformers-{versions[0][0]}"])
    return verdict.reads


def test_an_old_version_gives_the_trained_embeddings(old, tmp_path, record_property):
    """BERT, a decoder and ModernBERT, none of whose settings is the default, with and without projection."""
    python, versions = old
    made = {
        (kind, size): exported(tmp_path / f"{kind}{size}", kind, projection_dim=size)
        for kind in BACKBONES
        for size in (None, 20)
    }
    found = encoded(python, versions, [out for out, _ in made.values()], TEXTS)
    for case, (out, embedding_BD) in made.items():
        read, largest = found[str(out)], difference(found[str(out)]["vectors"], embedding_BD)
        print(f"{versions[0]} with transformers {versions[1]}: {case}: {largest:.1e}")
        assert largest <= BOUND
        assert difference(read["prompted"], embedding_BD) > 0.01  # the comparison can fail
        assert (read["length"], read["similarity"]) == (24, "cosine")
        assert read["prompts"].items() >= PROMPTS.named.items()
        assert row(out, versions) == "rightly"


def test_the_check_is_right_where_an_old_version_reads_wrongly(old, tmp_path):
    """Without the key of transformers 4, the rotary base is another one and nobody says so."""
    python, versions = old
    out, embedding_BD = exported(tmp_path, "qwen3")
    config = json.loads((out / "config.json").read_text())
    del config["rope_theta"]
    (out / "config.json").write_text(json.dumps(config))
    found = encoded(python, versions, [out], TEXTS)
    assert difference(found[str(out)]["vectors"], embedding_BD) > 1e-3
    assert row(out, versions) == "wrongly"


@pytest.mark.parametrize("change", ["layout", "tokenizer class", "special tokens", "key of Dense"])
def test_the_check_is_right_where_an_old_version_does_not_read(old, tmp_path, change):
    python, versions = old
    out, _ = exported(tmp_path, "bert", projection_dim=20)
    copy = tmp_path / "copy"
    if change == "layout":
        in_the_layout_of_sentence_transformers_5_4(out, copy)
    else:
        shutil.copytree(out, copy)
        file, key, value = {
            "tokenizer class": ("tokenizer_config.json", "tokenizer_class", "TokenizersBackend"),
            "special tokens": ("tokenizer_config.json", "extra_special_tokens", ["[MASK]"]),
            "key of Dense": ("2_Dense/config.json", "module_input_name", "sentence_embedding"),
        }[change]
        content = json.loads((copy / file).read_text()) | {key: value}
        (copy / file).write_text(json.dumps(content))
    assert row(copy, versions) == "not"
    with pytest.raises((AssertionError, subprocess.SubprocessError)):
        encoded(python, versions, [copy], TEXTS)
