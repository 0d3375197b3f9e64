"""`harness filter`: runs the stages one after the other, and writes the kept rows and a report.

OUT/  train.jsonl.gz  report.md  report.json (written last)   work/ (only while unfinished)

The results of the stages stay in work/ until the end, so that a new start continues a start that was killed. The kept
rows do not depend on such an interruption. They are equal for every number of ranks, except for pairs whose cosine
differs from a limit only by float32 rounding: the last bits of a cosine depend on which texts are padded together.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from harness import comm
from harness.data.source.facts import ReadSettings
from harness.data.table.identity import TextKeys
from harness.data.table.index import TaskData
from harness.data.table.tokenisation import Tokeniser
from harness.data.table.tokens.write import tokenise
from harness.filtering.config import FilterConfig
from harness.filtering.consistency import excluded_rivals, is_consistent, kth_rival_scores, sample
from harness.filtering.duplicates import is_repeated, pair_text
from harness.filtering.near.find import Compared, NearDuplicates
from harness.filtering.output import write_rows
from harness.filtering.pairs import PairTable, Verdicts, source_hash, write_pairs
from harness.filtering.reasons import Reason
from harness.filtering.report import REPORT, counts, score_summary, write_report
from harness.filtering.scoring import UniqueSides, cosines
from harness.ownership.claim import OutputFolder, is_unfinished
from harness.ownership.files import is_json_with
from harness.prompts import Prompts
from harness.rank0 import by_main, made_by_main
from harness.search.block_store import BlockStore
from harness.search.embeddings import Progress, TableEmbeddings
from harness.search.encode import Encode
from harness.search.unique_texts import unique_texts
from harness.settings import checked_json as json
from harness.settings.section import flat

WORK_FOLDER, DATA_FILE = "work", "train.jsonl.gz"
_WORK_VERSION = 3  # of the files in work/


@dataclass(frozen=True, slots=True)
class FilterRequest:
    """The data set to filter, the settings, the model, and the output folder."""

    path: str  # of the data set
    split: str
    corpus: TaskData | None  # the documents that positives are ranked against; None: the positives of all pairs
    config: FilterConfig
    tokeniser: Tokeniser
    prompts: Prompts  # put before queries and documents; a row's own prompt replaces the one of its query
    max_lengths: tuple[int, int]  # tokens, in the order of ROLES
    scored_by: dict[str, Any]  # everything that a score depends on: weights, pooling, tokenizer, prompts, lengths
    out: Path
    reading: Callable[[int], None]  # called with the number of texts read since the last call
    columns: ReadSettings = field(default_factory=ReadSettings)

    def hash_tokens(self, texts: list[str], own_prompts: list[str | None], role_N: np.ndarray) -> np.ndarray:
        """See `HashTokens`: what the model reads of each text."""
        return tokenise(texts, own_prompts, role_N, self.tokeniser, self.prompts, self.max_lengths).hashes()

    def facts(self) -> dict[str, Any]:
        """All that the result depends on, for the report. Every rank must call this; rank 0 hashes the source."""
        corpus = None if self.corpus is None else {"path": self.corpus.path, "hash": self.corpus.content_hash}
        data = {"path": self.path, "split": self.split, "hash": by_main(lambda: source_hash(self.path))}
        names = {ours: name if isinstance(name, str) else list(name) for ours, name in self.columns.columns.items()}
        return {
            "settings": self.config.model_dump(mode="json"),
            "model": self.scored_by,
            "data": data | ({"columns": names} if names else {}),
            "corpus": corpus,
        }


def earlier_report(request: FilterRequest, facts: dict[str, Any]) -> dict[str, Any] | None:
    """The report of an earlier finished run with the same settings, model and data; None if there is no report.

    Every rank must call this and gets the report that rank 0 reads. Rank 0 also removes work/, in case the earlier run
    was killed between writing the report and removing work/.

    Raises:
        ValueError: the folder holds a result with other settings, another model or other data.
    """
    return by_main(lambda: _read_earlier_report(request, facts))


def _read_earlier_report(request: FilterRequest, facts: dict[str, Any]) -> dict[str, Any] | None:
    path = request.out / REPORT
    if not path.is_file():
        return None
    report = json.loads(path.read_text(encoding="utf-8"))
    old, new = (flat({key: tree.get(key) for key in facts}) for tree in (report, facts))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key) and not key.endswith((".path", ".model"))]
    if changed:
        changes = "; ".join(f"{key}: {old.get(key)} → {new.get(key)}" for key in changed[:3])
        raise ValueError(
            f"--out: got {request.out}, which holds the result of others ({changes}), expected a new folder"
        )
    shutil.rmtree(request.out / WORK_FOLDER, ignore_errors=True)
    return report


def filter_pairs(encode: Encode, request: FilterRequest, facts: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Run all stages; rank 0 writes the kept rows and the report. Every rank must call this and gets the report.

    encode: returns unnormalised embeddings of texts that already start with their prompts. facts: `request.facts()`.
    """
    stages = _Stages(encode, request, facts, progress)
    table, verdicts = stages.run()
    facts = {**facts, "near_duplicates": None if stages.compared is None else asdict(stages.compared)}
    return by_main(lambda: _write_result(request, facts, progress, table, verdicts))


class _Stages:
    """The stages on this rank. Their files are in a folder below work/ whose name is a hash of `facts`."""

    def __init__(self, encode: Encode, request: FilterRequest, facts: dict[str, Any], progress: Progress) -> None:
        self._request, self._config, self._progress = request, request.config, progress
        self._key = {"facts": facts}
        digest = xxhash.xxh3_64_hexdigest(json.dumps([_WORK_VERSION, facts], sort_keys=True).encode())
        self._work = request.out / WORK_FOLDER / digest
        self._embed = TableEmbeddings(encode, request.prompts, self._work, self._key, progress)
        self.compared: Compared | None = None  # how near duplicates were found, once they are

    def run(self) -> tuple[PairTable, Verdicts]:
        """All pairs and the verdict on each pair. Every rank must call this; only rank 0's verdicts are complete."""
        by_main(self._remove_work_of_other_settings)
        table = self._read_and_apply_rules()
        verdicts = Verdicts.of_rules(table)
        if self._config.duplicates != "none":
            self._drop_exact_duplicates(table, verdicts)
        if self._config.duplicates == "near":
            self._drop_near_duplicates(table, verdicts)
        if len(verdicts.kept()):
            self._drop_by_score_and_consistency(table, verdicts)
        comm.barrier()  # rank 0 removes the files next, so every rank must have opened all of them
        return table, verdicts

    def _remove_work_of_other_settings(self) -> None:
        for folder in self._work.parent.glob("*"):
            if folder != self._work:
                shutil.rmtree(folder)

    def _read_and_apply_rules(self) -> PairTable:
        request = self._request

        def write(folder: Path) -> None:
            source = request.path, request.split, request.columns
            write_pairs(folder, *source, self._config.rules, request.hash_tokens, request.reading)

        return PairTable.open(made_by_main(self._work / "pairs", write))

    def _drop_exact_duplicates(self, table: PairTable, verdicts: Verdicts) -> None:
        pair_E = verdicts.kept()
        tokens = (table.token_hash_G[text_P[pair_E]] for text_P in (table.query_P, table.positive_P))
        verdicts.reason_P[pair_E[is_repeated(table.hash_P[pair_E], *tokens)]] = Reason.EXACT_DUPLICATE

    def _drop_near_duplicates(self, table: PairTable, verdicts: Verdicts) -> None:
        pair_E = verdicts.kept()

        def read(position_E: np.ndarray) -> list[str]:
            ids = (text_P[pair_E[position_E]] for text_P in (table.query_P, table.positive_P))
            queries, positives = (table.read_texts(text_E) for text_E in ids)
            return [pair_text(query, positive) for (query, _), (positive, _) in zip(queries, positives, strict=True)]

        stage = NearDuplicates(self._work / "near", len(pair_E), self._config, read, self._progress)
        is_near_E, self.compared = stage.find()
        verdicts.reason_P[pair_E[is_near_E]] = Reason.NEAR_DUPLICATE

    def _drop_by_score_and_consistency(self, table: PairTable, verdicts: Verdicts) -> None:
        pair_E = verdicts.kept()
        sides = UniqueSides.of(table, pair_E)
        query_QD = self._embed("queries", table, sides.query_id_Q, "query")
        document_CD = self._embed("documents", table, sides.document_id_C, "document")
        scores_file = self._work / "scores.npy"
        score_E = np.load(made_by_main(scores_file, lambda file: np.save(file, cosines(query_QD, document_CD, sides))))
        verdicts.score_P[pair_E] = score_E
        is_low_E = score_E < self._config.min_score
        verdicts.reason_P[pair_E[is_low_E]] = Reason.LOW_SCORE
        if self._config.consistency_top_k is None or is_low_E.all():
            return
        rivals, rival_CD = self._rivals(table, sides, document_CD, ~is_low_E)
        kth_score_Q = kth_rival_scores(
            query_QD,
            rival_CD,
            excluded_rivals(table, table.keys(sides.query_id_Q), rivals),
            self._config.consistency_top_k,
            BlockStore(self._work / "search", self._key),
            lambda done: self._progress("searching", done, len(query_QD)),
        )
        is_inconsistent_E = ~is_low_E & ~is_consistent(score_E, kth_score_Q, sides.query_E)
        verdicts.reason_P[pair_E[is_inconsistent_E]] = Reason.INCONSISTENT

    def _rivals(
        self, table: PairTable, sides: UniqueSides, document_CD: np.ndarray, is_kept_E: np.ndarray
    ) -> tuple[TextKeys, np.ndarray]:
        """Hashes and unit rows of a sample of the documents that positives are ranked against."""
        corpus, size = self._request.corpus, self._config.corpus_sample
        if corpus is None:
            kept_C = np.unique(sides.document_E[is_kept_E])
            chosen = kept_C[sample(table.token_hash_G[sides.document_id_C[kept_C]], size)]
            return table.keys(sides.document_id_C[chosen]), document_CD[chosen]
        id_C = unique_texts(corpus.token_hash_G)[0]
        chosen = id_C[sample(corpus.token_hash_G[id_C], size)]
        return corpus.keys(chosen), self._embed("corpus", corpus, chosen, "document")


def _write_result(
    request: FilterRequest, facts: dict[str, Any], progress: Progress, table: PairTable, verdicts: Verdicts
) -> dict[str, Any]:
    num_rows = int(table.row_P[-1]) + 1
    source = request.path, request.split, request.columns
    written = write_rows(
        request.out / DATA_FILE, source, table, verdicts, lambda done: progress("writing", done, num_rows)
    )
    report = {**facts, **counts(table.row_P, verdicts.reason_P), "shortened_rows": written.shortened_rows}
    report |= {"scores": score_summary(verdicts.score_P), "samples": written.samples}
    write_report(request.out, report)
    shutil.rmtree(request.out / WORK_FOLDER)
    return report


def output_folder(out: Path, say: Callable[[str], None]) -> OutputFolder:
    """Where `harness filter` writes: a new folder, one that a killed start has begun to fill, or an earlier result."""

    def is_ours(folder: Path) -> bool:
        report = folder / REPORT
        is_result = report.is_file() and is_json_with("settings", "model", "data", "rows", "pairs")(report.read_bytes())
        return is_result or is_unfinished(folder, "filter")

    return OutputFolder(out, "--out", "a result of harness filter", is_ours, say)
