"""What is searched for negatives, and what is left out: texts that encode alike are one (the tokenizer lower-cases)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.data_config import DataConfig
from harness.data.table.index import TableConfig, TaskData, open_table
from harness.data.table.tokenisation import Tokeniser
from harness.mining.mined_texts import mined_texts
from harness.prompts import NO_PROMPTS, Prompts
from tests.tiny import text, write_jsonl


def shout(number: int) -> str:
    return f" {text(number).upper()} "


@pytest.fixture
def tables(tmp_path: Path, tokeniser: Tokeniser) -> Any:
    def tables(rows: list[Any], documents: list[str] | None, prompts: Prompts = NO_PROMPTS) -> list[TaskData | None]:
        opened: list[TaskData | None] = []
        for kind, content in (("retrieval", rows), ("corpus", documents and [{"text": one} for one in documents])):
            if content is None:
                opened.append(None)
                continue
            path = write_jsonl(tmp_path / f"{kind}.jsonl", content)
            table = TableConfig(kind, kind, "train", prompts, (24, 24))  # type: ignore[arg-type]
            opened.append(open_table(table, str(path), DataConfig(cache=str(tmp_path / "cache")), tokeniser))
        return opened

    return tables


def left_out(data: TaskData, corpus: TaskData | None) -> set[tuple[str, str]]:
    """The excluded (query, document) pairs as lower-cased texts; every distinct query and document stands once."""
    texts = mined_texts(data, corpus)
    queries, documents = (
        [raw.strip().lower() for raw, _ in table.read_texts(ids)]
        for table, ids in ((data, texts.query_id_Q), (corpus or data, texts.document_id_C))
    )
    assert len(set(documents)) == len(documents)
    return {(queries[q], documents[d]) for q, d in zip(*texts.excluded_pairs, strict=True)}


def test_a_document_that_encodes_like_the_positive_or_the_query_is_left_out(tables: Any) -> None:
    rows = [{"query": text(1), "positive": text(100)}, {"query": text(2), "positive": text(101)}]
    corpus = [shout(100), text(300), shout(1), text(300).upper()]
    assert left_out(*tables(rows, corpus)) == {(text(1), text(100)), (text(1), text(1))}


def test_the_positives_of_a_query_that_encodes_alike_are_left_out(tables: Any) -> None:
    rows = [{"query": text(1), "positive": text(100)}, {"query": shout(1), "positive": text(101)}]
    data, _ = tables(rows, None)
    assert mined_texts(data, None).query_of_row_R.tolist() == [0, 0]  # one search for both rows
    assert left_out(data, None) == {(text(1), text(100)), (text(1), text(101))}


def test_a_document_equal_to_the_query_is_left_out_whatever_their_prompts(tables: Any) -> None:
    rows = [{"query": text(1), "positive": text(100)}]
    prompts = Prompts("aral ", "btin ")
    assert left_out(*tables(rows, [text(1), shout(100), text(3)], prompts)) == {
        (text(1), text(1)),
        (text(1), text(100)),
    }


def test_a_query_with_two_prompts_is_searched_twice_and_keeps_the_positives_of_both_rows_out(tables: Any) -> None:
    """Its embeddings differ, so both are searched; the raw query is one, and so both answers are known."""
    rows = [
        {"query": text(1), "pos": [text(100)], "neg": [], "prompt": "aral "},
        {"query": text(1), "pos": [text(101)], "neg": [], "prompt": "btin "},
    ]
    data, _ = tables(rows, None)
    texts = mined_texts(data, None)
    assert texts.query_of_row_R.tolist() == [0, 1]
    assert sorted(zip(*(ends.tolist() for ends in texts.positive_pairs), strict=True)) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]


def test_a_positive_that_is_no_document_is_missing_for_every_spelling_of_its_query(tables: Any) -> None:
    rows = [{"query": text(1), "positive": text(100)}, {"query": shout(1), "positive": [text(101), text(300)]}]
    data, corpus = tables(rows, [text(300), text(301)])
    texts = mined_texts(data, corpus)
    missing = {raw for raw, _ in data.read_texts(texts.missing_positive_id_E)}
    assert missing == {text(100), text(101)}
    assert np.unique(texts.missing_positive_query_E).tolist() == [0]
    assert left_out(data, corpus) == {(text(1), text(300))}
