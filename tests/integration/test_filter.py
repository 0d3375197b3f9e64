"""`harness filter` end to end on a tiny model: kept rows are unchanged, and a killed filter can be continued."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import files
from harness.cli.filter import filter_data
from harness.files import replace_file
from harness.filtering import output, pairs
from harness.filtering.config import FilterConfig, RuleConfig
from harness.filtering.near import find, signatures
from harness.model_folder.pooling import PoolingMode
from harness.search import embeddings as embeddings_module
from tests.tiny import text, write_jsonl

pytestmark = pytest.mark.distributed

NONE_DROPPED = FilterConfig(min_score=-1, duplicates="none")


def rows() -> list[dict[str, Any]]:
    """Good rows, and one bad row of every kind."""
    good = [
        {
            "id": i,
            "query": text(i, 6),
            "positive": [text(1000 + i, 8), text(2000 + i, 8)][: 1 + i % 2],
            "negative": ["n"],
        }
        for i in range(60)
    ]
    good[5]["positive"] = [text(1005, 8), "  ", "####"]
    good[7]["positive"] = "a bare text of its own"
    bad = [
        {"id": 100, "query": " ", "positive": "some text"},
        {"id": 101, "query": "no positive"},
        {"id": 102, "query": "an address", "positive": "https://example.org"},
        {"id": 103, "query": "the same", "positive": ["THE  same"]},
        {**good[2], "id": 104},
        {**good[4], "id": 105, "positive": [f"{good[4]['positive'][0]}."]},
    ]
    return [*good[:20], *bad[:3], *good[20:40], *bad[3:], *good[40:]]


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    return write_jsonl(folder / "pairs.jsonl", rows())


def run_filter(folder: str, out: str, **settings: Any) -> None:
    """Run the filter. Some tests call this on a rank."""
    config = FilterConfig(near_threshold=0.7, rules=RuleConfig(min_characters=3), **settings)
    filter_config(folder, out, config)


def filter_config(
    folder: str,
    out: str,
    config: FilterConfig,
    data: str = "pairs.jsonl",
    corpus: str | None = None,
    pooling: PoolingMode = "mean",
) -> None:
    here = Path(folder)
    filter_data(
        str(here / "model"),
        data,
        corpus=corpus,
        out=here / out,
        config=config,
        max_length=24,
        pooling=pooling,
        data_root=here,
    )


def kept(out: Path) -> list[dict[str, Any]]:
    with gzip.open(out / "train.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def embed(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    module = Transformer(str(folder / "model"), max_seq_length=24)
    model = SentenceTransformer(modules=[module, Pooling(module.get_embedding_dimension(), "mean")], device="cpu")
    return model.encode(texts, normalize_embeddings=True)


def test_rows_without_junk_come_out_as_they_came_in(folder: Path, source: Path) -> None:
    filter_config(str(folder), "kept", FilterConfig(min_score=-1, near_threshold=0.7))
    expected = [row for row in rows() if row["id"] < 100]
    expected[5]["positive"] = expected[5]["positive"][:1]
    assert kept(folder / "kept") == expected
    assert [list(row) for row in kept(folder / "kept")] == [list(row) for row in expected]
    found = report(folder / "kept")
    dropped = {
        "unusable": 1,
        "empty": 1,
        "urls_only": 1,
        "positive_is_query": 1,
        "exact_duplicate": 1,
        "near_duplicate": 1,
    }
    assert found["rows"] == {"in": 66, "kept": 60, "dropped": dropped}
    assert found["shortened_rows"] == 1
    assert found["samples"]["unusable"] == [
        {"line": 22, "problem": "positive: got no such field, expected a text or a list of texts"}
    ]
    page = (folder / "kept" / "report.md").read_text()
    assert all(label in page for label in dropped)
    assert not (folder / "kept" / "work").exists()


def test_pairs_below_the_score_go_and_scores_are_the_models_cosines(folder: Path, source: Path) -> None:
    good = [row for row in rows() if row["id"] < 100]
    pair = [(row["id"], row["query"], p) for row in good for p in row["positive"] if isinstance(row["positive"], list)]
    pair = [(i, query, positive) for i, query, positive in pair if positive.strip("# ")]
    pair.append((7, good[7]["query"], good[7]["positive"]))
    query_ED, positive_ED = (embed(folder, [one[side] for one in pair]) for side in (1, 2))
    score_E = (query_ED * positive_ED).sum(axis=1)
    limit = float(np.median(score_E))
    filter_config(str(folder), "scored", FilterConfig(min_score=limit, near_threshold=0.7))
    expected = {(i, positive) for (i, _, positive), score in zip(pair, score_E, strict=True) if score >= limit}
    rows_kept = [(row["id"], row["positive"]) for row in kept(folder / "scored")]
    found = {(i, p) for i, positives in rows_kept for p in ([positives] if isinstance(positives, str) else positives)}
    assert len(found ^ expected) <= 2  # the two pairs whose score is at the limit may differ
    assert report(folder / "scored")["scores"]["quantiles"]["0"] == pytest.approx(score_E.min(), abs=1e-4)
    assert report(folder / "scored")["scores"]["scored"] == len(pair)


def test_prompt_and_response_parquet_and_a_corpus(folder: Path) -> None:
    """A pair is kept if fewer than k documents of the corpus have a higher score than its response."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = [{"prompt": text(i, 6), "response": text(1000 + i, 8), "source": f"s{i}"} for i in range(20)]
    pq.write_table(pa.Table.from_pylist(table), folder / "prompts.parquet")
    corpus = [text(7000 + i, 7) for i in range(30)] + [row["response"] for row in table[:10]]
    write_jsonl(folder / "corpus.jsonl", [{"text": one} for one in corpus])
    prompt_QD, response_QD = (embed(folder, [row[name] for row in table]) for name in ("prompt", "response"))
    above_Q = (prompt_QD @ embed(folder, corpus).T > (prompt_QD * response_QD).sum(axis=1)[:, None] + 1e-6).sum(axis=1)
    k = int(np.median(above_Q)) + 1
    config = FilterConfig(min_score=-1, consistency_top_k=k)
    filter_config(str(folder), "corpus", config, data="prompts.parquet", corpus="corpus.jsonl")
    found = kept(folder / "corpus")
    assert found == [row for row, above in zip(table, above_Q, strict=True) if above < k]
    assert 0 < len(found) < len(table)


def test_without_a_usable_row_the_first_problem_is_said(folder: Path) -> None:
    write_jsonl(folder / "sts_pairs.jsonl", [{"text1": "a", "text2": "b", "score": 1.0}])
    with pytest.raises(ValueError, match=r"got no usable row.*sts_pairs.jsonl:1: columns: got .*kind: sts"):
        filter_config(str(folder), "sts_out", NONE_DROPPED, data="sts_pairs.jsonl")


def test_a_filter_that_keeps_nothing_says_so(folder: Path, source: Path) -> None:
    filter_config(str(folder), "nothing", FilterConfig(rules=RuleConfig(min_characters=40_000)))
    assert kept(folder / "nothing") == []
    assert report(folder / "nothing")["scores"]["scored"] == 0


def test_a_finished_filter_shows_its_report_and_refuses_other_settings(
    folder: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filter_config(str(folder), "finished", NONE_DROPPED)
    before, words = (folder / "finished" / "train.jsonl.gz").stat().st_mtime_ns, capsys.readouterr().out
    filter_config(str(folder), "finished", NONE_DROPPED)
    assert capsys.readouterr().out == words
    assert (folder / "finished" / "train.jsonl.gz").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"--out: got .*finished.*\(settings\.min_score: -1\.0 → 0\.5\)"):
        filter_config(str(folder), "finished", FilterConfig(min_score=0.5, duplicates="none"))
    with pytest.raises(ValueError, match=r"--out: got .*finished.*\(model\.pooling: mean → cls\)"):
        filter_config(str(folder), "finished", NONE_DROPPED, pooling="cls")


def test_a_start_killed_at_its_very_end_leaves_no_work_behind(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def remove_or_die(path: Path, **options: Any) -> None:
        if path.name == "work":
            raise KeyboardInterrupt
        remove(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", remove_or_die)
        with pytest.raises(KeyboardInterrupt):
            filter_config(str(folder), "ended", NONE_DROPPED)
    assert (folder / "ended" / "work").is_dir()
    filter_config(str(folder), "ended", NONE_DROPPED)
    assert not (folder / "ended" / "work").exists()


SETTINGS: dict[str, Any] = {"min_score": 0.93, "consistency_top_k": 20, "corpus_sample": 30}
FILES = ("train.jsonl.gz", "report.json", "report.md")


def contents(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in FILES]


def small_blocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(embeddings_module, "BLOCK_TEXTS", 16)
    patch.setattr(signatures, "BLOCK_PAIRS", 16)


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, source: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        run_filter(str(folder), "whole", **SETTINGS)
    found = report(folder / "whole")["pairs"]["dropped"]
    assert {"low_score", "inconsistent", "near_duplicate"} <= found.keys()
    return folder / "whole"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (pairs, "pair_hash"),
        (signatures, "replace_file"),
        (find, "replace_file"),
        (files, "sync"),
        (embeddings_module, "replace_file"),
        (output, "_json_line"),
    ],
)
def test_a_killed_start_is_continued_to_the_same_bytes(
    folder: Path, uninterrupted: Path, module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the filter at the second call of a function, in the middle of a stage, and continue it."""
    small_blocks(monkeypatch)
    original, calls = getattr(module, name), []

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    out = f"killed_{module.__name__.rsplit('.')[-1]}"
    monkeypatch.setattr(module, name, call)
    with pytest.raises(KeyboardInterrupt):
        run_filter(str(folder), out, **SETTINGS)
    assert not (folder / out / "report.json").exists()
    assert (folder / out / "work").is_dir()
    monkeypatch.setattr(module, name, original)
    run_filter(str(folder), out, **SETTINGS)
    assert contents(folder / out) == contents(uninterrupted)


def kill(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_encoded_texts_are_not_encoded_again(
    folder: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    monkeypatch.setattr(output, "replace_file", kill)
    with pytest.raises(KeyboardInterrupt):
        run_filter(str(folder), "encoded", **SETTINGS)
    monkeypatch.setattr(output, "replace_file", replace_file)
    monkeypatch.setattr(embeddings_module, "_write", lambda *arguments: pytest.fail("a text was encoded again"))
    run_filter(str(folder), "encoded", **SETTINGS)
    assert contents(folder / "encoded") == contents(uninterrupted)


def test_work_of_other_settings_is_not_continued(
    folder: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    monkeypatch.setattr(output, "replace_file", kill)
    with pytest.raises(KeyboardInterrupt):
        filter_config(str(folder), "changed", FilterConfig(rules=RuleConfig(min_characters=40)))
    monkeypatch.setattr(output, "replace_file", replace_file)
    run_filter(str(folder), "changed", **SETTINGS)
    assert contents(folder / "changed") == contents(uninterrupted)
