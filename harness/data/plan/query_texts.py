"""Finds all texts that are one with a query, the rows that have one of them as their query, and these rows' positives.

Queries that are one text share one group, and each row is visited once for each text that leads to it, however many
queries of the step the row belongs to. Rows are visited some at a time, so that many rows of one query need little
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.ragged import equal_ranges, expand_in_chunks, expand_ranges, matches
from harness.data.table.identity import TextKeys, identities
from harness.data.table.index import TaskData

ROWS_AT_ONCE = 1 << 17
NO_LINKS = TextKeys(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))


class RowsOfTexts:
    """The rows of a table whose query has either hash of some texts. Suffix Z: the texts."""

    def __init__(self, data: TaskData, keys: TextKeys) -> None:
        self.data, self.keys = data, keys
        by_raw = equal_ranges(data.sorted_query_hash_R, keys.raw_E)
        by_token = equal_ranges(data.sorted_query_token_hash_R, keys.token_E)
        self.alike_Z = self._have_equal_rows(by_raw, by_token)  # both hashes lead to the same rows
        # Rows to which both hashes lead are visited by the first only.
        self._by_raw, self._by_token = by_raw, (by_token[0], np.where(self.alike_Z, by_token[0], by_token[1]))

    def visit(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (text, row) of every row of every text; a pair may come twice."""
        yield from self._visit(np.ones(len(self.keys), dtype=bool))

    def other_keys(self) -> Iterator[TextKeys]:
        """Yields the keys of the visited rows' queries that differ in a hash from the text that led to them."""
        for text, row in self._visit(~self.alike_Z):
            keys = self.data.keys(self.data.row_start_R1[row])
            yield keys[np.flatnonzero(~keys.agree(self.keys[text]))]

    def _visit(self, chosen_Z: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        data = self.data
        searched = (self._by_raw, data.sorted_query_row_R), (self._by_token, data.sorted_query_token_row_R)
        for (start_Z, stop_Z), row_R in searched:
            for text, place in expand_in_chunks(start_Z, np.where(chosen_Z, stop_Z, start_Z), ROWS_AT_ONCE):
                yield text, np.asarray(row_R[place])

    def _have_equal_rows(
        self, by_raw: tuple[np.ndarray, np.ndarray], by_token: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Whether the raw hash and the token hash lead to the same rows, bool [Z]. Both lists of rows are ascending."""
        raw_row_R, token_row_R = self.data.sorted_query_row_R, self.data.sorted_query_token_row_R
        equal_Z = by_raw[1] - by_raw[0] == by_token[1] - by_token[0]
        shift_Z = by_token[0] - by_raw[0]
        for text, place in expand_in_chunks(by_raw[0], np.where(equal_Z, by_raw[1], by_raw[0]), ROWS_AT_ONCE):
            equal_Z[text[raw_row_R[place] != token_row_R[place + shift_Z[text]]]] = False
        return equal_Z


@dataclass(frozen=True)
class QueryTexts:
    """The texts that are one with any of some queries. Queries in one group are one text."""

    group_B: np.ndarray  # of each query
    keys: TextKeys  # of the texts, the queries among them
    group_Z: np.ndarray  # of each text
    rows: tuple[tuple[RowsOfTexts, int], ...]  # rows of consecutive texts, and the position of the first of these texts

    def positives(self, wanted: Callable[[TextKeys], np.ndarray]) -> tuple[np.ndarray, TextKeys]:
        """(group, keys) of the listed positives of all rows of a group. wanted: tells which positives to return."""
        groups, texts = [self.group_Z[:0]], [NO_LINKS]
        for rows, first in self.rows:
            if rows.data.kind != "retrieval":
                continue
            for text, row in rows.visit():
                group, keys = self._positives_of_rows(rows.data, self.group_Z[first + text], row)
                is_wanted = np.flatnonzero(wanted(keys))
                group, keys = without_repeats(group[is_wanted], keys[is_wanted])
                groups.append(group)
                texts.append(keys)
        return without_repeats(np.concatenate(groups), TextKeys.concatenate(texts))

    @staticmethod
    def _positives_of_rows(data: TaskData, group: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, TextKeys]:
        first, count = data.row_start_R1[row] + 1, data.num_positives_R[row]
        if (count == 1).all():
            return group, data.keys(first)
        entry, text_id = expand_ranges(first, first + count)
        return group[entry], data.keys(text_id)


def query_texts(all_data: Sequence[TaskData], query: TextKeys, links: TextKeys) -> QueryTexts:
    """All texts that are one with a query, be it through the queries of rows or through links.

    A row that is found through one hash may have another second hash. Rows with that hash are searched next, until
    there is none left. A row that reads alike and also encodes alike, as nearly all do, needs no second search.
    """
    _, new = without_repeats(np.zeros(len(query), dtype=np.int64), query)
    keys, rows = NO_LINKS, []
    while len(new):
        first, keys = len(keys), TextKeys.concatenate([keys, new])
        found = [_linked(new, links)] if len(links) else []
        for data in all_data:
            if data.kind in ("retrieval", "classification"):
                rows.append((RowsOfTexts(data, new), first))
                found += [_all_distinct(other) for other in rows[-1][0].other_keys()]
        new = _not_among(_all_distinct(TextKeys.concatenate([NO_LINKS, *found])), keys)
    group = identities(TextKeys.concatenate([query, keys]))
    return QueryTexts(group[: len(query)], keys, group[len(query) :], tuple(rows))


def without_repeats(group: np.ndarray, keys: TextKeys) -> tuple[np.ndarray, TextKeys]:
    """Drop (group, keys) that occur again. Some repeats may stay; they cost time but change nothing.

    Every text is written into a table at a place given by its hash. It is dropped if the text that was written there
    last is the same. This needs no sorting. Different texts in one place may keep each other's repeats, so it is done
    with both hashes.
    """
    for hash_of in (lambda texts: texts.token_E, lambda texts: texts.raw_E):
        if len(keys) < 2:
            break
        bits = np.uint64(64 - (2 * len(keys)).bit_length())
        place = ((hash_of(keys) * np.uint64(0x9E3779B97F4A7C15)) >> bits).astype(np.int64)
        last = np.empty(1 << (64 - int(bits)), dtype=np.int64)
        last[place] = number = np.arange(len(keys))
        last = last[place]
        is_repeat = (last != number) & (group[last] == group) & keys.agree(keys[last])
        if is_repeat.any():
            kept = np.flatnonzero(~is_repeat)
            group, keys = group[kept], keys[kept]
    return group, keys


def _all_distinct(keys: TextKeys) -> TextKeys:
    """The keys without repeats, all of them."""
    if not len(keys):
        return keys
    order = np.lexsort((keys.token_E, keys.raw_E))
    keys = keys[order]
    return keys[np.flatnonzero(np.append(True, ~keys[1:].agree(keys[:-1])))]


def _not_among(keys: TextKeys, others: TextKeys) -> TextKeys:
    """The keys (all distinct) that are not among the others."""
    if not len(keys):
        return keys
    order = np.lexsort((np.repeat([0, 1], [len(others), len(keys)]), *_stacked(others, keys)))
    both = TextKeys.concatenate([others, keys])[order]
    is_known = np.append(False, both[1:].agree(both[:-1]))
    return both[np.flatnonzero((order >= len(others)) & ~is_known)]


def _stacked(one: TextKeys, other: TextKeys) -> tuple[np.ndarray, np.ndarray]:
    both = TextKeys.concatenate([one, other])
    return both.token_E, both.raw_E


def _linked(keys: TextKeys, links: TextKeys) -> TextKeys:
    """The links that read or encode like one of the texts, and differ from it in the other hash."""
    found = []
    for entry, place in (matches(keys.raw_E, links.raw_E), matches(keys.token_E, links.token_E)):
        found.append(links[place[~keys[entry].agree(links[place])]])
    return TextKeys.concatenate(found)
