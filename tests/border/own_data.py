"""Data as people bring it, of the kinds that are easily read wrongly: what is right for each."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.border.tried import Case, Seen, harness, refused, said

SALT, FERRY, MOSS, LAMP = (
    "salt is kept in a jar",
    "the ferry leaves at noon",
    "moss grows north",
    "the lamp needs a wick",
)
WHERE, WHEN = "where is salt kept", "when does the ferry leave"
PAIRS = [{"query": WHERE, "positive": SALT}, {"query": WHEN, "positive": FERRY}]


def cases(place: Path) -> list[Case]:
    """A case per input, which is written into its own folder below `place`."""

    def planned(
        name: str, rows: Iterable[Any], pattern: str, *, kind: str = "retrieval", stops: bool = False, **task: Any
    ) -> Case:
        def try_it() -> Seen:
            folder = place / name.replace(" ", "_")
            rows_file = _write_rows(folder / "rows.jsonl", rows)
            recipe = _write_recipe(folder, kind=kind, path=task.pop("path", rows_file.name), **task)
            done = harness("plan", recipe)
            return refused(done, pattern) if stops else said(done, pattern)

        return Case(name, try_it)

    def judged(name: str, judgements: str, pattern: str, *, stops: bool = False) -> Case:
        def try_it() -> Seen:
            folder = place / name.replace(" ", "_")
            _write_rows(
                folder / "corpus.jsonl", [{"_id": f"d{i}", "text": t} for i, t in enumerate((SALT, FERRY, MOSS), 1)]
            )
            _write_rows(folder / "queries.jsonl", [{"_id": "q1", "text": WHERE}, {"_id": "q2", "text": WHEN}])
            (folder / "qrels").mkdir()
            (folder / "qrels" / "test.tsv").write_text(judgements, encoding="utf-8")
            done = harness("evaluate", "demo-minilm", folder)
            return refused(done, pattern) if stops else said(done, pattern)

        return Case(name, try_it)

    return [
        planned("a misspelt column", [{"query": WHERE, "positivve": SALT}], "positivve", stops=True),
        planned(
            "negatives only in later rows",
            [*PAIRS, {**PAIRS[0], "hard_negs": [MOSS]}],
            "1 rows have negatives that are not used",
        ),
        planned("a near name only in later rows", [*PAIRS, {**PAIRS[0], "bm25_negs": [MOSS]}], "bm25_negs", stops=True),
        planned("degrees beside pairs", [{**row, "label": 3} for row in PAIRS], "label", stops=True),
        planned("labels as text", [{**row, "label": "1"} for row in PAIRS], r"label"),
        planned(
            "a query with wrong answers only",
            [*PAIRS, {"query": "who mends lamps", "positive": MOSS, "label": 0}],
            "label",
            stops=True,
        ),
        planned("other columns", [{**row, "id": 7, "source": "web"} for row in PAIRS], r"not used.*(id|source)"),
        planned(
            "foreign names",
            [{"question": WHERE, "answer": SALT}, {"question": WHEN, "answer": FERRY}],
            r"question, answer|answer, question",
            columns={"query": "question", "positive": "answer"},
        ),
        planned("a mapped name that is not there", PAIRS, "reply", stops=True, columns={"positive": "reply"}),
        planned(
            "Tevatron's passages",
            [
                {
                    "query": WHERE,
                    "positive_passages": [{"docid": "1", "title": "Salt", "text": SALT}],
                    "negative_passages": [{"docid": "2", "title": "", "text": MOSS}],
                }
            ],
            "negative_passages",
            negatives={"per_query": 1},
        ),
        planned(
            "ms-swift's messages",
            [
                {
                    "messages": [{"role": "user", "content": WHERE}],
                    "positive_messages": [[{"role": "user", "content": SALT}]],
                }
            ],
            "positive_messages",
        ),
        planned(
            "FlagEmbedding's type",
            [{"query": WHERE, "pos": [SALT], "neg": [MOSS], "type": "symmetric_sts"}],
            "symmetric",
            stops=True,
        ),
        planned("premise and hypothesis", [{"premise": WHERE, "hypothesis": SALT, "label": 2}], "columns", stops=True),
        planned(
            "two scores for one pair",
            [{"text1": SALT, "text2": FERRY, "score": score} for score in (1, 5)],
            "score",
            kind="sts",
        ),
        planned(
            "one label",
            [{"text": text, "label": "a"} for text in (SALT, FERRY)],
            "label",
            kind="classification",
            stops=True,
        ),
        planned("more examples than rows", PAIRS, r"quota|repeat", quota=5),
        Case("a csv with quotes and line ends", lambda: _csv(place / "csv")),
        Case("a JSON list", lambda: _container(place / "list", "rows.json", json.dumps(PAIRS).encode())),
        Case("a folder of compressed shards", lambda: _shards(place / "shards")),
        Case(
            "a cut gz",
            lambda: _container(
                place / "cut", "rows.jsonl.gz", gzip.compress(_lines(PAIRS * 200))[:60], stops="rows.jsonl.gz"
            ),
        ),
        Case(
            "a file without a header",
            lambda: _container(
                place / "tsv",
                "rows.tsv",
                f"{WHERE}\t{SALT}\n{WHEN}\t{FERRY}\n".encode(),
                stops="first line must name the columns",
            ),
        ),
        judged("TREC's four columns", "q1 0 d1 1\nq2 0 d2 1\n", r"ndcg_at_10.*1\.0000"),
        judged("two grades for one pair", "q1\td1\t1\nq1\td1\t0\nq2\td2\t1\n", "grade", stops=True),
        judged("half a grade", "query-id\tcorpus-id\tscore\nq1\td1\t0.5\n", "0.5", stops=True),
    ]


def _csv(folder: Path) -> Seen:
    folder.mkdir()
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.writer(stream)
        writer.writerows([["query", "positive"], [WHERE, 'he said: "in a jar"\nand left'], [WHEN, FERRY]])
    return said(harness("plan", _write_recipe(folder, path="rows.csv")), r"rows\.csv.*\b2\b.*query, positive")


def _container(folder: Path, name: str, content: bytes, stops: str | None = None) -> Seen:
    folder.mkdir()
    (folder / name).write_bytes(content)
    done = harness("plan", _write_recipe(folder, path=name))
    return said(done, rf"{name}.*\b2\b.*query, positive") if stops is None else refused(done, stops)


def _shards(folder: Path) -> Seen:
    (folder / "rows").mkdir(parents=True)
    for index, row in enumerate(PAIRS):
        (folder / "rows" / f"part{index}.jsonl.gz").write_bytes(gzip.compress(_lines([row])))
    done = harness("plan", _write_recipe(folder, path="rows"))
    both = bool(done.line_with("part0") and done.line_with("part1"))
    return Seen(f"status {done.status}, both shards in the table: {both}", done.status == 0 and both)


def _lines(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_lines(rows))
    return path


def _write_recipe(folder: Path, *, kind: str = "retrieval", quota: int = 1, **task: Any) -> Path:
    """A recipe in JSON, which is YAML, too."""
    tree = {
        "name": "border",
        "model": {"name_or_path": "demo-minilm", "max_length": 32},
        "tasks": [{"name": "t", "kind": kind, "quota": quota, **task}],
        "training": {"steps": 2},
        "output": str(folder / "run"),
    }
    if kind == "classification":
        tree["tasks"][0]["negatives"] = {"per_query": 1}  # type: ignore[index]
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path
