"""A teacher's vectors: each text of a step gets its own, and what does not fit the data or the model is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.config import load_recipe
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.run.tasks import check_teachers, open_tasks
from harness.types import QueryPart
from tests.tiny import make_data, make_model, make_recipe, write_jsonl

DIM = 7
LOSS = "tasks.faq.loss=[info_nce, teacher_similarity]"


def vector_of(text: str, dim: int = DIM) -> np.ndarray:
    """A vector that no other text has."""
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=dim)


def write_vectors(folder: Path, dim: int = DIM) -> str:
    """The vectors of all texts of the tiny retrieval task, in its order; returns the recipe's override."""
    rows = [json.loads(line) for line in (folder / "retrieval.jsonl").read_text().splitlines()]
    sides = {
        "query": [row["query"] for row in rows],
        "positive": [text for row in rows for text in row["positive"]],
        "negative": [text for row in rows for text in row["negative"]],
    }
    for side, texts in sides.items():
        np.save(folder / f"{side}.npy", np.stack([vector_of(text, dim) for text in texts]).astype(np.float32))
    return f"tasks.faq.teacher_vectors={{{', '.join(f'{side}: {side}.npy' for side in sides)}}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model(tmp_path / "model")
    make_data(tmp_path)
    make_recipe(tmp_path)
    return tmp_path


@pytest.fixture
def opened(folder: Path) -> Callable[..., tuple[Task, ...]]:
    def opened(*overrides: str) -> tuple[Task, ...]:
        loaded = load_recipe(str(folder / "tiny.yaml"), overrides)
        return open_tasks(loaded, Tokeniser(loaded.config.model.name_or_path))

    return opened


@pytest.mark.parametrize("positives", ["one", "all"])
def test_every_query_positive_and_negative_of_a_step_has_its_own_vector(folder, opened, positives) -> None:
    """Rows of the tiny data have one or two positives and up to three negatives, so that no side is in step with the
    rows."""
    tasks = opened(LOSS, write_vectors(folder), f"tasks.faq.positives={positives}")
    seen = 0
    for step in range(1, 8):
        step_plan = plan(tasks, seed=0, step=step)
        part = next(part for part in step_plan.parts if part.task == "faq")
        assert isinstance(part, QueryPart)
        assert part.teacher is not None
        assert part.teacher.negative_BMV is not None
        texts = [text for text, _ in tasks[0].data.read_texts(step_plan.texts.text_T[part.table_rows])]
        of_row = dict(zip(part.table_rows.tolist(), texts, strict=True))
        for query, row in enumerate(part.query_B):
            np.testing.assert_allclose(part.teacher.query_BV[query], vector_of(of_row[row]), rtol=1e-6)
            for place, vectors in (
                (part.positive_BP, part.teacher.positive_BPV),
                (part.negative_BM, part.teacher.negative_BMV),
            ):
                for column in np.flatnonzero(place[query] >= 0):
                    text = of_row[part.document_N[place[query, column]]]
                    np.testing.assert_allclose(vectors[query, column], vector_of(text), rtol=1e-6)
                    seen += 1
    assert seen > 100


def test_vectors_of_another_number_of_texts_are_refused(folder, opened) -> None:
    given = write_vectors(folder)
    np.save(folder / "positive.npy", np.ones((40, DIM)))
    with pytest.raises(
        ValueError, match=r"teacher_vectors\.positive: got .*positive\.npy with 40 vectors, expected 60"
    ):
        opened(LOSS, given)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.ones(40), r"float64 of shape \[40\], expected floating-point numbers of shape \[40, dimensions\]"),
        (np.ones((40, DIM), np.int64), r"int64 of shape \[40, 7\], expected floating-point"),
        (np.ones((40, DIM + 1)), r"8 \(query\), 7 \(positive\), 7 \(negative\) dimensions, expected as many"),
        (np.where(np.arange(40)[:, None] == 3, 0.0, np.ones((40, DIM))), r"zeros in vector 3 \(from 0\)"),
        (np.where(np.arange(40)[:, None] == 3, np.nan, np.ones((40, DIM))), r"not finite in vector 3 \(from 0\)"),
        (np.where(np.arange(40)[:, None] == 3, 1e30, np.ones((40, DIM))), r"a length that float32 cannot hold"),
        (np.array([[{}]], dtype=object), r"query\.npy \(ValueError\), expected a \.npy file of numpy\.save"),
    ],
)
def test_what_is_no_array_of_vectors_is_refused_in_a_line(folder, opened, array, problem) -> None:
    given = write_vectors(folder)
    np.save(folder / "query.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=problem) as raised:
        opened(LOSS, given)
    assert "\n" not in str(raised.value)


def test_rows_that_were_left_out_are_refused_because_their_vectors_would_shift_the_others(folder, opened) -> None:
    given = write_vectors(folder)
    rows = [json.loads(line) for line in (folder / "retrieval.jsonl").read_text().splitlines()]
    write_jsonl(folder / "retrieval.jsonl", [*rows, {"query": 3, "positive": "x"}])
    with pytest.raises(ValueError, match=r"got data with 1 rows left out"):
        opened(LOSS, given, "data.on_bad_row=skip")


def test_a_teacher_of_another_size_is_refused_by_the_loss_that_compares_dimensions_only(folder, opened) -> None:
    given = write_vectors(folder)
    check_teachers(opened(LOSS, given), 32)
    tasks = opened("tasks.faq.loss=[teacher_cosine]", given)
    check_teachers(tasks, DIM)
    with pytest.raises(
        ValueError, match=r"7 dimensions with loss teacher_cosine and a model of 32, .*projection_dim: 7"
    ):
        check_teachers(tasks, 32)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ([LOSS], r"tasks\.faq\.teacher_vectors: got none with loss teacher_similarity"),
        (["VECTORS"], r"teacher_vectors: got it with loss info_nce, expected it with teacher_cosine or"),
        ([LOSS, "VECTORS", "tasks.faq.negatives={per_query: 2, bank: b}"], r"teacher_vectors\.negative: .* with negat"),
        ([LOSS, "VECTORS", "tasks.faq.negatives={per_query: 0}"], r"teacher_vectors\.negative: .*per_query 0"),
        ([LOSS, "VECTORS", "mining.remine.every=2"], r"mining: got re-ranking with tasks\.faq\.teacher_vectors\.neg"),
        (["tasks.faq.loss=[spread_out]"], r"tasks\.faq\.loss: got spread_out alone, .* \[info_nce, spread_out\]"),
        (
            ["loss.weights={spread_out: 2}"],
            r"loss\.weights: got spread_out, expected losses of the tasks: cosent, info",
        ),
        (["loss.weights={spread: 2}"], r"loss\.weights: got 'spread', expected losses"),
        (["loss.weights={info_nce: 0}"], r"loss\.weights"),
    ],
)
def test_settings_that_do_not_go_together_cost_a_line(folder, overrides, problem) -> None:
    given = write_vectors(folder)
    with pytest.raises(ValueError, match=problem) as raised:
        load_recipe(str(folder / "tiny.yaml"), [given if override == "VECTORS" else override for override in overrides])
    assert "\n" not in str(raised.value)
