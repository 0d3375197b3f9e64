"""`harness filter`: the stages in their order, each kept on disk until the end: a killed start goes on behind the last.

OUT/  train.jsonl.gz  report.md  report.json (written last)   work/ while unfinished

The kept rows do not depend on where a start was killed. They are the same for every number of ranks, up to pairs whose
cosine lies within float32 rounding of a limit: how texts are padded together changes a cosine's last bits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from harness import comm
from harness.data.config import PromptsConfig
from harness.data.table.index import TaskData
from harness.filtering.config import FilterConfig
from harness.filtering.consistency import is_consistent, kth_scores, no_rivals, sample
from harness.filtering.duplicates import pair_text, repeats
from harness.filtering.near_duplicates import near_repeats, write_signatures
from harness.filtering.output import write_rows
from harness.filtering.pairs import PairTable, source_hash, write_pairs
from harness.filtering.reasons import Reason
from harness.filtering.report import REPORT, counts, score_summary, write_report
from harness.filtering.scoring import Sides, cosines
from harness.rank0 import by_main, made_by_main
from harness.search.block_store import BlockStore
from harness.search.embeddings import Encode, Progress, TableEmbeddings
from harness.search.unique_texts import unique_texts
from harness.section import flat

WORK_FOLDER, DATA_FILE = "work", "train.jsonl.gz"


@dataclass(frozen=True, slots=True)
class FilterRequest:
    """What is filtered, with which settings, by which model, into which folder."""

    path: str  # of the source
    split: str
    corpus: TaskData | None  # what consistency is judged against; None: the pairs' own documents
    config: FilterConfig
    prompts: PromptsConfig  # before queries and documents; a row's own prompt takes the query's place
    scored_by: dict[str, Any]  # what a score depends on: model, weights, pooling, prompts, lengths
    out: Path
    reading: Callable[[int], None]  # called with the number of texts read since the last call

    def facts(self) -> dict[str, Any]:
        """All that decides the result, as the report says it. Every rank calls it; rank 0 reads the source once."""
        corpus = None if self.corpus is None else {"path": self.corpus.path, "hash": self.corpus.content_hash}
        return {
            "settings": self.config.model_dump(mode="json"),
            "model": self.scored_by,
            "data": {
                "path": self.path,
                "split": self.split,
                "hash": by_main(lambda: source_hash(self.path)),
            },
            "corpus": corpus,
        }


def finished_report(request: FilterRequest, facts: dict[str, Any]) -> dict[str, Any] | None:
    """The report of an earlier start with the same settings, model and data; None if there is none.

    Every rank calls it and gets what rank 0 finds, which removes the work of a start that was killed at its end.

    Raises:
        ValueError: the folder holds the result of others.
    """
    return by_main(lambda: _finished_report(request, facts))


def _finished_report(request: FilterRequest, facts: dict[str, Any]) -> dict[str, Any] | None:
    path = request.out / REPORT
    if not path.is_file():
        return None
    report = json.loads(path.read_text(encoding="utf-8"))
    old, new = (flat({key: tree.get(key) for key in facts}) for tree in (report, facts))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key) and not key.endswith((".path", ".model"))]
    if changed:
        shown = "; ".join(f"{key}: {old.get(key)} → {new.get(key)}" for key in changed[:3])
        raise ValueError(f"--out: got {request.out}, which holds the result of others ({shown}), expected a new folder")
    shutil.rmtree(request.out / WORK_FOLDER, ignore_errors=True)
    return report


def filter_pairs(encode: Encode, request: FilterRequest, facts: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Run all stages; rank 0 writes the kept rows and the report. Every rank calls it and gets the report.

    encode: unnormalised embeddings of texts with their prompts before them. facts: `request.facts()`.
    """
    run = _Run(encode, request, facts, progress)
    reason_P, score_P = run.judge()
    return by_main(lambda: _write_result(request, facts, progress, run.table, reason_P, score_P))


def _write_result(
    request: FilterRequest,
    facts: dict[str, Any],
    progress: Progress,
    table: PairTable,
    reason_P: np.ndarray,
    score_P: np.ndarray,
) -> dict[str, Any]:
    rows = int(table.row_P[-1]) + 1
    source, out = (request.path, request.split), request.out
    written = write_rows(
        out / DATA_FILE, source, table, reason_P, score_P, lambda done: progress("writing", done, rows)
    )
    report = {**facts, **counts(table.row_P, reason_P), "shortened_rows": written.shortened_rows}
    report |= {"scores": score_summary(score_P), "samples": written.samples}
    write_report(out, report)
    shutil.rmtree(out / WORK_FOLDER)
    return report


class _Run:
    """The stages on this rank. Their files lie in a folder of their own for all that decides the result."""

    def __init__(self, encode: Encode, request: FilterRequest, facts: dict[str, Any], progress: Progress) -> None:
        self.request, self.config, self.progress = request, request.config, progress
        self.key = {"facts": facts}
        digest = xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())
        self.work = request.out / WORK_FOLDER / digest
        self.embed = TableEmbeddings(encode, request.prompts, self.work, self.key, progress)
        by_main(self._discard_others)

    def judge(self) -> tuple[np.ndarray, np.ndarray]:
        """(`Reason` of every pair, uint8 [P]; its score, float32 [P], NaN where an earlier stage dropped it)."""
        self.table = self._read()
        reason_P = np.array(self.table.reason_P)
        if self.config.duplicates != "none":
            alive = np.flatnonzero(reason_P == Reason.KEPT)
            reason_P[alive[repeats(self.table.hash_P[alive])]] = Reason.EXACT_DUPLICATE
        if self.config.duplicates == "near":
            alive = np.flatnonzero(reason_P == Reason.KEPT)
            reason_P[alive[self._near_repeats(alive)]] = Reason.NEAR_DUPLICATE
        score_P = np.full(len(reason_P), np.nan, dtype=np.float32)
        alive = np.flatnonzero(reason_P == Reason.KEPT)
        if len(alive):
            self._score(alive, reason_P, score_P)
        comm.barrier()  # no rank still opens a file that rank 0 removes at the end
        return reason_P, score_P

    def _read(self) -> PairTable:
        def write(folder: Path) -> None:
            write_pairs(folder, self.request.path, self.request.split, self.config.rules, self.request.reading)

        return PairTable.open(made_by_main(self.work / "pairs", write))

    def _near_repeats(self, alive: np.ndarray) -> np.ndarray:
        def read(place_E: np.ndarray) -> list[str]:
            sides = (self.table.read_texts(ids[alive[place_E]]) for ids in (self.table.query_P, self.table.positive_P))
            return [pair_text(query, positive) for (query, _), (positive, _) in zip(*sides, strict=True)]

        def find(file: Path) -> None:
            arrays = self.work / "bands"
            shutil.rmtree(arrays, ignore_errors=True)
            with file.open("wb") as stream:
                np.save(stream, near_repeats(paths, self.config, arrays))
            shutil.rmtree(arrays)

        folder, total = self.work / "signatures", len(alive)
        paths = write_signatures(
            folder, read, total, self.config, lambda done: self.progress("near duplicates", done, total)
        )
        return np.load(made_by_main(self.work / "near_repeats.npy", find))

    def _score(self, alive: np.ndarray, reason_P: np.ndarray, score_P: np.ndarray) -> None:
        """Stages 4 and 5, which write into both arrays; rank 0's are complete."""
        sides = Sides.of(self.table, alive)
        query_QD = self.embed("queries", self.table, sides.query_id_Q, "query")
        document_CD = self.embed("documents", self.table, sides.document_id_C, "document")

        def save(file: Path) -> None:
            with file.open("wb") as stream:
                np.save(stream, cosines(query_QD, document_CD, sides))

        score_E = np.load(made_by_main(self.work / "scores.npy", save))
        score_P[alive] = score_E
        is_low_E = score_E < self.config.min_score
        reason_P[alive[is_low_E]] = Reason.LOW_SCORE
        if self.config.consistency_top_k is None or is_low_E.all():
            return
        hash_C, rival_CD = self._rivals(sides, document_CD, ~is_low_E)
        kth_Q = kth_scores(
            query_QD,
            rival_CD,
            no_rivals(self.table, sides.query_hash_Q, hash_C),
            self.config.consistency_top_k,
            BlockStore(self.work / "search", self.key),
            lambda done: self.progress("searching", done, len(query_QD)),
        )
        is_lost_E = ~is_low_E & ~is_consistent(score_E, kth_Q, sides.query_E)
        reason_P[alive[is_lost_E]] = Reason.INCONSISTENT

    def _rivals(self, sides: Sides, document_CD: np.ndarray, is_kept_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hashes and unit rows of the sampled documents."""
        corpus = self.request.corpus
        if corpus is None:
            candidate = np.unique(sides.document_E[is_kept_E])
            chosen = candidate[sample(sides.document_hash_C[candidate], self.config.corpus_sample)]
            return sides.document_hash_C[chosen], document_CD[chosen]
        id_C = unique_texts(corpus.text_hash_G)[0]
        chosen = id_C[sample(corpus.text_hash_G[id_C], self.config.corpus_sample)]
        return corpus.text_hash_G[chosen], self.embed("corpus", corpus, chosen, "document")

    def _discard_others(self) -> None:
        """Remove what an unfinished start with other settings left."""
        for folder in self.work.parent.glob("*"):
            if folder != self.work:
                shutil.rmtree(folder)
