"""Token ids depend only on the text and the length; padding depends only on the rows and the model."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.table.tokenisation import Tokeniser
from tests.tiny import make_model, text
from tests.unit.data.table.sources import Open, write_lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def test_two_threads_cut_at_their_own_lengths(folder: Path) -> None:
    """The next step is tokenised in another thread, and the tokenizer stores the length as state."""
    tokeniser = Tokeniser(str(folder))
    texts = [text(seed, 200) for seed in range(4)]

    def lengths(max_length: int) -> set[int]:
        return {len(row) for _ in range(400) for row in tokeniser.encode(texts, max_length)}

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lengths, [64, 128])) == [{64}, {128}]


def test_encoding_leaves_the_tokenizer_that_is_saved_alone(folder: Path, tmp_path: Path) -> None:
    """Otherwise a checkpoint would store the length of the last encoded text, and saving would race with encoding."""
    tokeniser = Tokeniser(str(folder))
    tokeniser.encode([text(0, 50)], 16)
    tokeniser.tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] is None


@pytest.mark.parametrize(("positions", "width"), [(30, 30), (31, 31), (64, 32), (None, 32), (20, 29)])
def test_padding_stays_within_the_positions_and_never_below_the_longest_row(
    folder: Path, tmp_path: Path, positions: int | None, width: int
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    if positions is not None:
        config = json.loads((folder / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    batch = Tokeniser(str(tmp_path)).pad([[5] * 29, [6] * 3])
    assert tuple(batch.input_ids_BL.shape) == (2, width)
    assert batch.attention_mask_BL.sum(1).tolist() == [29, 3]


def test_padding_stands_on_the_right_whatever_the_tokenizer_says(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    tokeniser = Tokeniser(str(tmp_path))
    assert tokeniser.pad([[5, 6], [7]]).attention_mask_BL[:, :2].tolist() == [[1, 1], [1, 0]]
    assert tokeniser.tokenizer.padding_side == "right"  # exported models pad right, too


@pytest.mark.parametrize("setting", [{"truncation_side": "left"}, {"split_special_tokens": True}])
def test_settings_of_a_tokenizer_make_the_tokens_anew(
    tmp_path: Path, open_data: Open, tokeniser: Tokeniser, setting: dict[str, Any]
) -> None:
    """They stand in tokenizer_config.json only. Without them in the key, a run would train on the other ids."""
    path = write_lines(tmp_path / "a.jsonl", [{"query": "[SEP] ral tin mok", "pos": ["mok ral"], "neg": []}] * 2)
    data = open_data(path, query_max_length=5)
    config = make_model(tmp_path / "other") / "tokenizer_config.json"
    assert Tokeniser(str(tmp_path / "other")).fingerprint == tokeniser.fingerprint
    config.write_text(json.dumps(json.loads(config.read_text()) | setting))
    other = Tokeniser(str(tmp_path / "other"))
    again = open_data(path, query_max_length=5, tokeniser=other)
    (fresh,) = other.encode(["[SEP] ral tin mok"], 5)
    assert again.read_tokens(np.array([0])).ids_E.tolist() == fresh
    assert data.read_tokens(np.array([0])).ids_E.tolist() != fresh
