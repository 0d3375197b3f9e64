"""Known positives and queries that mean the same, in random small tables of all kinds, equal loops over sets."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from harness.data.plan import query_texts
from harness.data.plan.known_positives import known_positive_pairs, known_positives_among, same_meaning_pairs
from harness.data.table.identity import TextKeys

Text = tuple[int, int]  # hash of the raw text, hash of its tokens


@dataclass
class Table:
    """What the functions read of a `TaskData`."""

    kind: str
    rows: list[tuple[list[Text], int]]  # the texts of a row, its query first; its number of positives, or its label
    label_R: np.ndarray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.num_rows = len(self.rows)
        self.row_start_R1 = np.cumsum([0, *(len(texts) for texts, _ in self.rows)])
        numbers = np.array([number for _, number in self.rows], dtype=np.int64)
        self.num_positives_R = numbers if self.kind == "retrieval" else np.zeros(self.num_rows, dtype=np.int64)
        if self.kind == "classification":
            self.label_R = numbers.astype(np.int32)
        self._all = keys_of([text for texts, _ in self.rows for text in texts])
        first = self._all[self.row_start_R1[:-1]]
        self.sorted_query_row_R = np.argsort(first.raw_E, kind="stable")
        self.sorted_query_hash_R = first.raw_E[self.sorted_query_row_R]
        self.sorted_query_token_row_R = np.argsort(first.token_E, kind="stable")
        self.sorted_query_token_hash_R = first.token_E[self.sorted_query_token_row_R]

    def keys(self, text_ids: np.ndarray) -> TextKeys:
        return self._all[text_ids]


def keys_of(texts: list[Text]) -> TextKeys:
    raw_E, token_E = np.array(texts, dtype=np.uint64).reshape(-1, 2).T
    # Spread over the high bits, as hashes are, and no hash of a raw text equals one of tokens.
    return TextKeys(raw_E << np.uint64(52), (token_E + np.uint64(100)) << np.uint64(52))


class Loops:
    """The definitions, by loops."""

    def __init__(self, tables: list[Table], queries: list[Text], links: list[Text]) -> None:
        self.tables, self.links = tables, links
        self.own = [self.closure(query) for query in queries]
        self.positives = [self.listed(own) for own in self.own]

    def closure(self, query: Text) -> set[Text]:
        """The texts that are one with the query through rows' queries and links."""
        queries = [row[0][0] for table in self.tables if table.kind != "sts" for row in table.rows]
        own, size = {query}, 0
        while len(own) > size:
            size = len(own)
            own |= {text for text in (*queries, *self.links) if any(alike(text, one) for one in own)}
        return own

    def listed(self, own: set[Text]) -> set[Text]:
        return {
            text
            for table in self.tables
            if table.kind == "retrieval"
            for texts, number in table.rows
            if any(alike(texts[0], one) for one in own)
            for text in texts[1 : 1 + number]
        }

    def groups(self, others: list[Text]) -> dict[Text, int]:
        """A number for each text; texts that are one, be it through others, have one number."""
        texts = sorted({*others, *self.links, *set().union(*self.own, *self.positives)})
        number = {text: i for i, text in enumerate(texts)}
        for _ in texts:
            for one in texts:
                for other in texts:
                    if alike(one, other):
                        number[one] = number[other] = min(number[one], number[other])
        return number

    def labels(self, groups: dict[Text, int], text: Text, table: Table) -> set[int]:
        same = [other for other, number in groups.items() if number == groups[text]]
        return {label for texts, label in table.rows if any(alike(texts[0], one) for one in same)}

    def known(self, others: list[Text], *, labels_of_positives: bool = False) -> list[set[int]]:
        """For each query, the positions of the others that are known positives of it."""
        groups = self.groups(others)
        found = []
        for own, positives in zip(self.own, self.positives, strict=True):
            mine = {groups[text] for text in own | positives}
            counted = own | positives if labels_of_positives else own
            known = {i for i, other in enumerate(others) if groups[other] in mine}
            for table in self.tables:
                if table.kind == "classification":
                    labels = set().union(*(self.labels(groups, text, table) for text in counted))
                    known |= {i for i, other in enumerate(others) if self.labels(groups, other, table) & labels}
            found.append(known)
        return found


def alike(one: Text, other: Text) -> bool:
    return one[0] == other[0] or one[1] == other[1]


def random_case(seed: int) -> tuple[list[Table], list[Text], list[Text], list[Text]]:
    """Tables, queries of their rows (some several times), documents and links."""
    generator = random.Random(seed)
    several_encodings = seed % 3 > 0  # else equal raw texts have equal tokens
    size = generator.choice([3, 6, 12])

    def any_text() -> Text:
        raw = generator.randrange(size)
        return raw, generator.randrange(size) if several_encodings else raw // 2

    def row(kind: str) -> tuple[list[Text], int]:
        if kind == "classification":
            return [any_text()], generator.randrange(3)
        number = 1 + generator.randrange(3)
        return [any_text() for _ in range(2 + number)], number

    kinds = generator.choices(["retrieval", "classification", "sts"], [3, 2, 1], k=3)
    tables = [Table(kind, [row(kind) for _ in range(1 + generator.randrange(5))]) for kind in kinds]
    queries = [texts[0] for table in tables if table.kind != "sts" for texts, _ in table.rows]
    queries = generator.choices(queries, k=4) if queries else []
    links = [any_text() for _ in range(generator.choice([0, 4]))]
    return tables, queries, [any_text() for _ in range(5)], links


def as_sets(pairs: tuple[np.ndarray, np.ndarray], count: int) -> list[set[int]]:
    query, found = pairs
    packed = query * 1000 + found
    assert (packed[1:] > packed[:-1]).all()  # sorted and distinct
    return [set(found[query == i].tolist()) for i in range(count)]


@pytest.mark.parametrize("rows_at_once", [1, 2, 1 << 17])
@pytest.mark.parametrize("block", range(4))
def test_known_positives_in_random_tables_equal_loops_over_sets(
    block: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_texts, "ROWS_AT_ONCE", rows_at_once)
    num_known = 0
    for seed in range(30 * block, 30 * block + 30):
        tables, queries, documents, links = random_case(seed)
        arguments = tables, keys_of(queries), keys_of(documents), np.arange(5)
        known = Loops(tables, queries, links).known(documents)
        assert as_sets(known_positive_pairs(*arguments, keys_of(links)), len(queries)) == known, seed
        candidate_BM = np.random.default_rng(seed).integers(-1, 5, (len(queries), 3))
        among = known_positives_among(*arguments, candidate_BM, keys_of(links))
        expected = [of_query & set(row.tolist()) for of_query, row in zip(known, candidate_BM, strict=True)]
        assert as_sets(among, len(queries)) == expected, seed
        num_known += sum(map(len, known))
    assert num_known > 100


@pytest.mark.parametrize("block", range(4))
def test_queries_that_mean_the_same_in_random_tables_equal_loops_over_sets(block: int) -> None:
    num_same = 0
    for seed in range(30 * block, 30 * block + 30):
        tables, queries, _, links = random_case(seed)
        loops, others = Loops(tables, queries, links), queries[::-1]
        texts = [sorted(own | positives) for own, positives in zip(loops.own, loops.positives, strict=True)][::-1]
        flat = [(i, text) for i, of_other in enumerate(texts) for text in of_other]
        found = loops.known([text for _, text in flat], labels_of_positives=True)
        expected = [{flat[place][0] for place in of_query} for of_query in found]
        same = same_meaning_pairs(tables, keys_of(queries), keys_of(others), np.arange(len(others)), keys_of(links))
        assert as_sets(same, len(queries)) == expected, seed
        num_same += sum(map(len, expected))
    assert num_same > 100
