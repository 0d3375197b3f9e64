"""The golden masks: what the plan leaves out equals union-find and loops over all texts of the data."""

import random

import pytest

from harness.data.config import NegativesConfig, PromptsConfig
from harness.data.plan.plan import plan
from tests.tiny import text

LENGTH = 7  # tokens; text(…) has 6 words, so that prompt and special tokens cut the last ones
SPELLINGS = (str, str.upper, lambda raw: f" {raw} ", lambda raw: f"{raw} amok", lambda raw: f"{raw} bdip")


def rows_of(generator):
    """Queries, documents and labels from a pool of eight texts in five spellings."""

    def any_text():
        return generator.choice(SPELLINGS)(text(generator.randrange(8)))

    def retrieval():
        return [
            {"query": any_text(), "positive": [any_text() for _ in range(1 + i % 2)], "negative": [any_text()]}
            for i in range(5)
        ]

    return [retrieval(), retrieval(), [{"text": any_text(), "label": "ab"[i % 2]} for i in range(6)]]


class OneTexts:
    """Every text of the data as (task, raw), grouped by union-find."""

    def __init__(self, tokeniser, prompts, rows):
        self.group, by_key = {}, {}
        for task, examples in enumerate(rows):
            for row in examples:
                texts = [row["text"]] if "text" in row else [row["query"], *row["positive"], *row["negative"]]
                for raw in texts:
                    ids = tuple(tokeniser.encode([prompts[task] + raw], LENGTH)[0])
                    self.group.setdefault((task, raw), (task, raw))
                    for key in (("raw", raw), ("ids", ids)):
                        self.join((task, raw), by_key.setdefault(key, (task, raw)))

    def find(self, node):
        while self.group[node] != node:
            node = self.group[node]
        return node

    def join(self, one, other):
        self.group[self.find(one)] = self.find(other)


def expected_known(one, rows, task, query):
    """The groups of the texts that are known positives of a query."""
    me = one.find((task, query))
    known = {me}
    for number in (0, 1):
        for row in rows[number]:
            if one.find((number, row["query"])) == me:
                known |= {one.find((number, raw)) for raw in row["positive"]}
    labels = {row["label"] for row in rows[2] if one.find((2, row["text"])) == me}
    return known | {one.find((2, row["text"])) for row in rows[2] if row["label"] in labels}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scope", ["own", "task", "step"])
def test_exactly_the_known_positives_of_a_query_in_any_spelling_are_masked(open_, tokeniser, seed, scope):
    rows = rows_of(random.Random(seed))
    prompts = [("aral ", "aral ", "btin "), ("", "", ""), ("", "aral ", "")][seed % 3]
    settings = [{"positives": "all", "quota": 5}, {"positives": "all", "quota": 5}, {"quota": 6}]
    tasks = [
        open_(
            "classification" if task == 2 else "retrieval",
            rows[task],
            f"task{task}",
            max_length=LENGTH,
            prompts=PromptsConfig(query=prompts[task], document="" if task == 2 else prompts[task]),
            negatives=NegativesConfig(scope=scope, per_query=1),
            **settings[task],
        )
        for task in range(3)
    ]
    one = OneTexts(tokeniser, prompts, rows)
    step_plan = plan(tasks, seed=0, step=1)
    num_masked = 0
    for task, part in enumerate(step_plan.parts):
        names = []  # the group of every document
        for row in part.document_N:
            source, text_id = step_plan.texts.source_T[row], step_plan.texts.text_T[[row]]
            names.append(one.find((int(source), tasks[source].data.read_texts(text_id)[0][0])))
        for i, row in enumerate(part.row_B):
            query = rows[task][row]["text" if task == 2 else "query"]
            compared = set(part.negative_BM[i].tolist()) if scope == "own" else set(range(len(names)))
            known = expected_known(one, rows, task, query)
            expected = {n for n in compared - {-1} if names[n] in known} - set(part.positive_BP[i].tolist())
            assert set(part.excluded_BX[:][i].tolist()) - {-1} == expected
            num_masked += len(expected)
    assert num_masked
