"""How evenly four ways deal the texts of a step to the ranks, and how much of the work is padding.

    python -m benchmarks.balance --data-root DIR [--ranks 2 8 64] [--recipe RECIPE ...]
        [--micro-batch-tokens 1024 16384] [--steps 6] [--out FILE.json]

It plans steps over real data and deals them; it trains nothing. Without --recipe it measures the mixtures below, whose
quotas are examples per rank. A recipe's quotas are examples per step, for any number of ranks. The ways to deal:

    ours           every text once; `harness.data.batch.deal` chooses rank and micro-batch
    there and back our way until 2026-11-21: sort by length, deal to ranks 0..W-1, then W-1..0, and so on; fill
                   micro-batches greedily, longest text first
    in order       each rank encodes a contiguous share of every task's examples, as data-parallel trainers do
    the paper's    a fifth of the ranks encodes the STS pairs, the other ranks encode queries and negatives in groups of
                   up to four: every rank of a group encodes the same queries and positives, and a share of the
                   negatives (arXiv 2408.15710, figure 3)

In the last two ways several ranks may encode the same text, but each rank encodes it once; the micro-batches are cut as
in ours. All figures are means over the steps, except `worst`.

    largest        padded tokens of the rank that has the most
    to mean        largest, divided by the mean over ranks
    worst          `to mean` of the worst step
    padding        share of padding in the padded tokens of all ranks
    gathered       rows of the gathered embedding table
    texts          encoded texts, summed over the ranks

Goal: `worst` of ours is at most 1.05. Exit status 1: the goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import command_line
from harness.config import LoadedRecipe, RunConfig, load_recipe
from harness.data.batch.deal import deal
from harness.data.batch.micro_batches import longest_first, padded_length, padded_tokens, split_into_micro_batches
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.run.tasks import open_tasks
from harness.types import PairPart, QueryPart, StepPlan

GOAL = 1.05
Placed = list[list[np.ndarray]]  # for each rank its micro-batches; a micro-batch is an array of text numbers


def retrieval(name: str, quota: int, *, folder: str = "train", per_query: int = 7) -> dict[str, Any]:
    path = f"train/{name}.train.jsonl.gz" if folder == "train" else f"{folder}/{name}/train.jsonl.gz"
    negatives = {"scope": "task", "per_query": per_query}
    return {"name": name, "kind": "retrieval", "path": path, "quota": quota, "negatives": negatives}


def sts(name: str, quota: int) -> dict[str, Any]:
    return {"name": name, "kind": "sts", "path": f"sts/{name}/train.jsonl.gz", "quota": quota}


def classification(name: str, quota: int) -> dict[str, Any]:
    path = f"classification/{name}/train.jsonl.gz"
    return {"name": name, "kind": "classification", "path": path, "quota": quota, "negatives": {"per_query": 7}}


# Mixture → (longest text in tokens, tasks). The quotas are examples per rank.
MIXTURES: dict[str, tuple[int, list[dict[str, Any]]]] = {
    "the paper's quotas, English": (512, [retrieval("stackfaq_en", 4), sts("stsb_en", 32)]),
    "the paper's quotas, Chinese": (512, [retrieval("cmrc2018_zh", 4), sts("afqmc_zh", 32)]),
    "classification and STS": (128, [classification("banking77_en", 16), sts("stsb_en", 16)]),
    "all kinds": (
        512,
        [
            retrieval("cranfield_en", 2),
            retrieval("alpaca_en", 16, folder="prompt_response", per_query=0),
            classification("banking77_en", 8),
            sts("stsb_en", 8),
        ],
    ),
}


def ours(step: StepPlan, ranks: int, budget: int) -> Placed:
    return [list(batches) for batches in deal(step.texts.length_T, ranks, budget).micro_batches]


def there_and_back(step: StepPlan, ranks: int, budget: int) -> Placed:
    """Sort texts by length, deal them to ranks 0..W-1, W-1..0 and so on, then cut each rank's texts greedily."""
    length_T = step.texts.length_T
    turn_T = np.resize(np.concatenate([np.arange(ranks), np.arange(ranks)[::-1]]), len(length_T))
    dealt = longest_first(np.arange(len(length_T)), length_T)
    return [greedy_cut(dealt[turn_T == rank], length_T, budget) for rank in range(ranks)]


def greedy_cut(text_R: np.ndarray, length_T: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut texts, sorted longest first, into micro-batches. Each takes as many texts of its longest length as fit."""
    batches = []
    while len(text_R):
        count = max(1, budget // int(padded_length(length_T[text_R[0]])))
        batches.append(text_R[:count])
        text_R = text_R[count:]
    return batches


def in_order(step: StepPlan, ranks: int, budget: int) -> Placed:
    """Each rank encodes the texts of a contiguous share of each task's examples."""
    text_lists: list[list[np.ndarray]] = [[] for _ in range(ranks)]
    for part in step.parts:
        for rank, examples in enumerate(np.array_split(np.arange(_examples(part)), ranks)):
            text_lists[rank] += _texts_of(part, examples)
    return [_cut_once(texts_of_rank, step, budget) for texts_of_rank in text_lists]


def of_the_paper(step: StepPlan, ranks: int, budget: int) -> Placed:
    """The last fifth of the ranks encodes the STS pairs. The others encode queries, in groups of up to four ranks."""
    text_lists: list[list[np.ndarray]] = [[] for _ in range(ranks)]
    num_sts = max(1, round(ranks / 5))
    groups = np.array_split(np.arange(ranks - num_sts), -(-(ranks - num_sts) // 4))
    for part in step.parts:
        if not isinstance(part, QueryPart):
            for rank, examples in enumerate(np.array_split(np.arange(_examples(part)), num_sts), ranks - num_sts):
                text_lists[rank] += _texts_of(part, examples)
            continue
        for group, examples in zip(groups, np.array_split(np.arange(_examples(part)), len(groups)), strict=True):
            query_and_positives, negatives = _texts_of(part, examples)
            for rank, share in zip(group, np.array_split(negatives, len(group)), strict=True):
                text_lists[rank] += [query_and_positives, share]
    return [_cut_once(texts_of_rank, step, budget) for texts_of_rank in text_lists]


def _examples(part: QueryPart | PairPart) -> int:
    return len(part.query_B) if isinstance(part, QueryPart) else len(part.text1_S)


def _texts_of(part: QueryPart | PairPart, examples: np.ndarray) -> list[np.ndarray]:
    """Text numbers of these examples: [queries and positives, negatives], or [first sentences, second sentences]."""
    if not isinstance(part, QueryPart):
        return [part.text1_S[examples], part.text2_S[examples]]
    positives, negatives = (
        document_BX[examples][document_BX[examples] >= 0] for document_BX in (part.positive_BP, part.negative_BM)
    )
    return [
        np.concatenate([part.query_B[examples], part.document_N[positives]]),
        part.document_N[negatives],
    ]


def _cut_once(text_lists: Sequence[np.ndarray], step: StepPlan, budget: int) -> list[np.ndarray]:
    """Remove repeated texts of a rank and cut the rest into micro-batches as in `ours`."""
    texts = np.unique(np.concatenate(text_lists)) if text_lists else np.empty(0, dtype=np.int64)
    return split_into_micro_batches(texts, step.texts.length_T, budget)


WAYS: dict[str, Callable[[StepPlan, int, int], Placed]] = {
    "ours": ours,
    "there and back": there_and_back,
    "in order": in_order,
    "the paper's": of_the_paper,
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Results of one way to deal one mixture to a number of ranks: means over the steps, except `worst_to_mean`."""

    mixture: str
    ranks: int
    budget: int
    way: str
    largest: float  # padded tokens of the rank that has the most
    to_mean: float  # largest / mean over ranks
    worst_to_mean: float  # of the worst step
    padding: float  # share of padding in the padded tokens of all ranks
    micro_batches: float  # of the rank that has the most
    gathered: float  # rows of the gathered table: number of ranks x largest number of texts of a rank
    texts: float  # encoded texts, summed over the ranks


def measure(mixture: str, ranks: int, budget: int, way: str, steps: Sequence[StepPlan]) -> Figures:
    rows = []
    for step in steps:
        placed, length_T = WAYS[way](step, ranks, budget), step.texts.length_T
        padded_W = np.array([sum(padded_tokens(batch, length_T) for batch in batches) for batches in placed])
        texts_W = np.array([sum(map(len, batches)) for batches in placed])
        num_real_tokens = sum(int(length_T[batch].sum()) for batches in placed for batch in batches)
        to_mean, padding = padded_W.max() / padded_W.mean(), 1 - num_real_tokens / padded_W.sum()
        micro_batches = max(sum(len(batch) > 0 for batch in batches) for batches in placed)
        rows.append([padded_W.max(), to_mean, padding, micro_batches, ranks * texts_W.max(), texts_W.sum()])
    largest, to_mean, *rest = np.mean(rows, axis=0).tolist()
    return Figures(mixture, ranks, budget, way, largest, to_mean, float(np.max(rows, axis=0)[1]), *rest)


def opened(mixture: str, ranks: int, data_root: Path) -> tuple[Task, ...]:
    """Open a mixture's tasks with quotas for this number of ranks and the tokenizer of all-MiniLM-L6-v2."""
    max_length, tasks = MIXTURES[mixture]
    config = RunConfig.model_validate(
        {
            "name": "balance",
            "model": {"name_or_path": "demo-minilm", "max_length": max_length},
            "tasks": [{**task, "quota": task["quota"] * ranks} for task in tasks],
            "training": {"steps": 1},
            "deepspeed": "zero1",
        }
    )
    return open_tasks(LoadedRecipe(config, data_root, data_root), Tokeniser("demo-minilm"))


def cases(options: argparse.Namespace) -> Iterator[tuple[str, int, list[StepPlan]]]:
    """Yield (name, ranks, plans of the steps) for every recipe, or else every mixture, and every number of ranks."""
    steps = range(1, options.steps + 1)
    for recipe in options.recipe:
        loaded = load_recipe(recipe, data_root=options.data_root)
        config, model = loaded.config, loaded.config.model
        tasks = open_tasks(loaded, Tokeniser(model.name_or_path, model.trust_remote_code))
        plans = [plan(tasks, seed=config.training.seed, step=step, balance=config.loss.balance) for step in steps]
        yield from ((config.name, ranks, plans) for ranks in options.ranks)
    for mixture in () if options.recipe else MIXTURES:
        for ranks in options.ranks:
            tasks = opened(mixture, ranks, options.data_root)
            yield mixture, ranks, [plan(tasks, seed=0, step=step) for step in steps]


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="where the mixtures' and recipes' data lie")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--recipe", nargs="+", default=[], help="recipes instead of the mixtures: names or paths")
    parser.add_argument(
        "--micro-batch-tokens", type=int, nargs="+", default=[1024, 16_384], help="a micro-batch's budget"
    )
    parser.add_argument("--steps", type=int, default=6)
    command_line.add_out(parser)
    options = parser.parse_args()
    if min(*options.ranks, 2) < 2:
        parser.error(f"--ranks: got {min(options.ranks)}, expected at least 2; one rank has nothing to be dealt")
    figures = []
    for mixture, ranks, steps in cases(options):
        for budget in options.micro_batch_tokens:
            figures += [measure(mixture, ranks, budget, way, steps) for way in WAYS]
            print(describe(figures[-len(WAYS) :], steps), flush=True)
    print(verdict(figures))
    command_line.write_json(options.out, [asdict(row) for row in figures])
    sys.exit(0 if verdict(figures).endswith("met") else 1)


def describe(figures: Sequence[Figures], steps: Sequence[StepPlan]) -> str:
    """Format a Markdown table with one row for each way."""
    first, texts = figures[0], np.mean([len(step.texts) for step in steps])
    saved = np.mean([step.texts_saved for step in steps])
    lines = [
        f"\n{first.mixture}: {first.ranks} ranks, micro-batches of {first.budget:,} tokens; unique texts a step: "
        f"{texts:,.0f}, repeats saved: {saved:,.0f}\n",
        "| dealt | largest | to mean | worst | padding | micro-batches | gathered | texts |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures:
        lines.append(
            f"| {row.way} | {row.largest:,.0f} | {row.to_mean:.3f} | {row.worst_to_mean:.3f} | {row.padding:.0%} "
            f"| {row.micro_batches:.1f} | {row.gathered:,.0f} | {row.texts:,.0f} |"
        )
    return "\n".join(lines)


def verdict(figures: Sequence[Figures]) -> str:
    """Say whether ours meets the goal at every step, and name its worst case."""
    worst = max((row for row in figures if row.way == "ours"), key=lambda row: row.worst_to_mean)
    where = f"{worst.mixture}, {worst.ranks} ranks, {worst.budget:,} tokens"
    met = "met" if worst.worst_to_mean <= GOAL else "missed"
    return f"\ngoal: largest rank at most {GOAL} × mean at every step; worst {worst.worst_to_mean:.3f} ({where}): {met}"
