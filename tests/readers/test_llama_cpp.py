"""The real llama.cpp converts our exports and gives the trained embeddings, or does what check-export says.

On demand, with the network: pytest -p no:xdist -m readers tests/readers. BERT's tokenizer is MiniLM's, because the
converter refuses others by a hash.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

from harness.export.readers import judge_folder
from harness.model_folder.find import resolve_model
from harness.prompts import ModelPrompts
from tests.readers.environments import difference
from tests.readers.llama_cpp import converted, embedded, llama_cpp
from tests.unit.export.folders import exported

pytestmark = pytest.mark.readers
TEXTS = ["how long does tea keep", "HOW Long", "Crème brûlée", "茶叶可以保存多久？", "   ", "tea  \n keeps " * 30]
KOREAN = ["차는 얼마나 오래"]
BOUND = 1e-3  # gelu from a table in half precision


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return llama_cpp(tmp_path_factory.mktemp("llama"))


def bert(folder: Path, activation: str) -> str:
    """A small BERT with MiniLM's tokenizer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    model = BertModel(BertConfig(**sizes, hidden_act=activation))
    for parameter in model.parameters():
        if parameter.dim() > 1:  # with other norms, all texts would be alike
            torch.nn.init.normal_(parameter, std=0.25)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(Path(resolve_model("demo-minilm")) / name, folder / name)
    return str(folder)


def found(source: Path, folder: Path, texts: list[str]) -> tuple[list[list[float]], object, str]:
    """(vectors of llama.cpp, those of sentence-transformers, what check-export says)."""
    file = folder.parent / "model.gguf"
    done = converted(source, folder, file)
    assert done.returncode == 0, done.stderr[-2000:]
    [verdict] = judge_folder(folder, ["llama.cpp"])
    ours = SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)
    return embedded(source, file, texts), ours, verdict.reads


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_llama_cpp_gives_the_vectors_of_a_bert(source, tmp_path, pooling):
    first = bert(tmp_path / "first", "gelu")
    out, _ = exported(tmp_path, "bert", ModelPrompts(), name_or_path=first, pooling=pooling, max_length=256)
    theirs, ours, reads = found(source, out, TEXTS)
    assert (difference(theirs, ours) < BOUND, reads) == (True, "rightly")
    theirs, ours, _ = found(source, out, KOREAN)
    assert difference(theirs, ours) > 10 * BOUND  # the note is right, and the comparison can fail


def test_llama_cpp_drops_a_projection(source, tmp_path):
    out, _ = exported(tmp_path, "bert", name_or_path=bert(tmp_path / "first", "gelu"), projection_dim=20)
    theirs, ours, reads = found(source, out, TEXTS)
    assert (len(theirs[0]), len(ours[0]), reads) == (64, 20, "wrongly")


def test_llama_cpp_takes_every_activation_of_a_bert_for_gelu(source, tmp_path):
    out, _ = exported(tmp_path, "bert", name_or_path=bert(tmp_path / "first", "relu"), max_length=256)
    theirs, ours, reads = found(source, out, TEXTS)
    assert (difference(theirs, ours) > 10 * BOUND, reads) == (True, "wrongly")


def test_llama_cpp_refuses_a_tokenizer_that_it_does_not_know(source, tmp_path):
    out, _ = exported(tmp_path, "bert")
    done = converted(source, out, tmp_path / "model.gguf")
    assert done.returncode != 0
    assert "pre-tokenizer was not recognized" in done.stderr
