"""The golden equalities of a step, measured: `python -m tests.golden` prints the matrix.

Each number is the relative error of the whole gradient vector of one step, computed by the ZeRO engine, compared with
plain autograd on the same texts in one process. Limits: 1e-5 in fp32; in other precisions, 1.5 times the error of plain
autograd with this precision in one process.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from harness.data.batch.deal import deal
from harness.data.batch.schedule import schedule
from harness.data.plan.permutation import derive_key
from harness.encoder.compile import compile_layers
from harness.encoder.encoder import Encoder, fingerprint
from harness.engine import phases
from harness.engine.config import TrainingConfig
from harness.engine.graphs import changes_bits_without_graph
from harness.engine.precision import AUTOCAST, weight_dtype
from harness.engine.step import Step
from harness.engine.zero import ZeroEngine
from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from harness.settings.environment import prepare_environment
from harness.types import PairPart, QueryPart, RaggedLists, Schedule, StepPlan, StepTexts, TokenBatch
from tests.golden_cases import Case, cases, partial_cases
from tests.golden_encoders import VOCABULARY, partial_encoder, tiny_encoder
from tests.golden_mixtures import Mixture, mixed_loss_settings, mixed_plan
from tests.golden_negatives import masked_by_loops, tiny_guide, with_all_options, with_queries_joined
from tests.ranks import run_ranks

TIMEOUT = 2400.0  # s for the cases of one number of ranks: compiling takes most of it where the cores are slow


def tiny_texts(count: int = 31) -> list[list[int]]:
    """Token ids of texts with very different lengths, so that ranks differ in tokens and micro-batches."""
    generator = np.random.default_rng(3)
    return [generator.integers(5, VOCABULARY, size=int(n)).tolist() for n in generator.integers(3, 40, size=count)]


def tiny_plan(lengths: list[int]) -> StepPlan:
    """Two InfoNCE tasks (one with hard negatives and exclusions, one with scope own) and two STS tasks."""
    texts = StepTexts(np.zeros(len(lengths), np.int32), np.arange(len(lengths)), np.array(lengths, dtype=np.int64))
    rows = np.arange
    faq = QueryPart(
        task="faq",
        row_B=rows(5),
        query_B=rows(0, 5),
        document_N=rows(5, 17),
        positive_BP=rows(0, 5)[:, None],
        negative_BM=np.array([[5, 6], [7, -1], [8, 9], [10, 11], [5, 10]]),
        rank_BM=np.tile(rows(2), (5, 1)),
        excluded_BX=RaggedLists.of_padded(np.array([[1, 2], [-1, -1], [3, -1], [-1, -1], [6, -1]])),
        own_negatives_only=False,
    )
    intents = QueryPart(
        task="intents",
        row_B=rows(3),
        query_B=np.array([17, 18, 4]),
        document_N=rows(19, 25),
        positive_BP=rows(0, 3)[:, None],
        negative_BM=np.array([[3, 4], [4, 5], [5, 3]]),
        rank_BM=np.full((3, 2), -1),
        excluded_BX=RaggedLists.of_padded(np.full((3, 0), -1)),
        own_negatives_only=True,
    )
    similar = PairPart("similar", rows(3), np.array([25, 26, 27]), np.array([28, 29, 30]), np.float32([0.1, 3.0, 5.0]))
    alike = PairPart("alike", rows(2), np.array([0, 25]), np.array([29, 27]), np.float32([0.0, 1.0]))
    return StepPlan(1, texts, (faq, intents, similar, alike))


def tiny_objective(
    implementation: str, mixture: Mixture | None = None, *, negatives: bool = False, gather: str = "table"
) -> Objective:
    tasks = [TaskLossSettings("faq", 0.05, 1.0, 0.3), TaskLossSettings("intents", 0.1, 2.0, None)]
    tasks += [TaskLossSettings(name, 0.05, losses=("cosent",)) for name in ("similar", "alike")]
    tasks = mixed_loss_settings() if mixture else tasks
    tasks = with_all_options(tasks) if negatives else tasks
    loss = LossConfig(implementation=implementation, gather=gather)  # type: ignore[arg-type]
    return Objective(tasks, loss, (8, 16, 24), (0.5, 1.0, 1.0))  # type: ignore[arg-type]


def pad(ids: list[list[int]]) -> TokenBatch:
    rows = ids or [[0]]
    width = max(map(len, rows))
    return TokenBatch(
        torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    )


def tiny_schedule(case: Case) -> tuple[list[list[int]], StepPlan, Schedule]:
    texts = tiny_texts()
    lengths = np.array([len(text) for text in texts])
    scheduled = deal(lengths, case.world, case.budget)
    if case.shuffled:  # a random deal, in which a rank has almost no text
        rank_T = np.random.default_rng(11).choice(
            case.world, len(texts), p=[0.9, 0.1, 0.0][: case.world] if case.world == 3 else None
        )
        scheduled = schedule(lengths, rank_T, case.world, case.budget)
    plan = tiny_plan(lengths.tolist())
    plan = mixed_plan(case.mixture, plan.texts) if case.mixture else plan
    plan = with_queries_joined(plan) if case.negatives else plan
    return texts, plan, scheduled


def engine_gradients(case: Case) -> dict[str, Tensor]:
    """Compute one step's gradients with the engine. Runs on every rank."""
    from harness import comm

    texts, plan, scheduled = tiny_schedule(case)
    training = TrainingConfig(steps=1, precision=case.precision, max_grad_norm=0.0)  # type: ignore[arg-type]
    engine = build_engine(case, training)
    with_graph = changes_bits_without_graph(engine)
    if case.negatives:
        plan = tiny_guide(tiny_encoder(seed=8), texts).mask(plan)
    batches = [pad([texts[t] for t in rows]) for rows in scheduled.micro_batches[comm.rank()]]
    kept = graphs_kept(case, scheduled)
    step = Step(plan, scheduled, batches, seed=5, graphs_kept=kept, embeds_with_graph=with_graph)
    objective = tiny_objective(case.implementation, case.mixture, negatives=case.negatives, gather=case.gather)
    compute_gradients(engine, objective, step)
    return engine.full_gradients()


def build_engine(case: Case, training: TrainingConfig) -> ZeroEngine:
    """The engine of a case, with a new tiny encoder."""
    encoder = encoder_of(case)
    if case.compiled:
        compile_layers(encoder)
    return ZeroEngine(encoder, training, deepspeed_json(case))


def encoder_of(case: Case) -> Encoder:
    if not (case.adapter or case.frozen or case.recomputed):
        return tiny_encoder(case.dropout, backbone=case.backbone, soft_mask=case.soft_mask)
    parts = {"frozen": case.frozen, "recomputed": case.recomputed, "soft_mask": case.soft_mask}
    return partial_encoder(case.dropout, case.backbone, case.adapter, **parts)


def compute_gradients(engine: ZeroEngine, objective: Objective, step: Step) -> None:
    """The three phases of a step: the engine holds its gradients."""
    embeddings = phases.embed(engine, step)
    scores = phases.score(engine, objective, step, embeddings)
    phases.replay(engine, step, embeddings, scores.gradients)


def weights_after_steps(case: Case, steps: int = 2) -> str:
    """Hash of the weights after some steps on the texts of `tiny_texts`. Runs on every rank; for rank 0 only."""
    from harness import comm

    texts, plan, scheduled = tiny_schedule(case)
    training = TrainingConfig(steps=steps, learning_rate=1e-2, warmup_ratio=0, precision=case.precision)  # type: ignore[arg-type]
    engine = build_engine(case, training)
    with_graph = changes_bits_without_graph(engine)
    batches = [pad([texts[t] for t in rows]) for rows in scheduled.micro_batches[comm.rank()]]
    for number in range(1, steps + 1):
        kept = graphs_kept(case, scheduled)
        step = Step(replace(plan, step=number), scheduled, batches, 5, graphs_kept=kept, embeds_with_graph=with_graph)
        compute_gradients(engine, tiny_objective(case.implementation), step)
        left = [p for p in engine.module.parameters() if case.stage == 3 and p.ds_status.name == "AVAILABLE"]
        assert all(parameter.ds_persist for parameter in left), "weights that ZeRO-3 has gathered and not released"
        engine.update_weights(number)
    return fingerprint(engine.module_state())


def graphs_kept(case: Case, scheduled: Schedule) -> int:
    count = scheduled.num_micro_batches
    return {"none": 0, "half": -(-count // 2), "all": count}[case.kept]


def deepspeed_json(case: Case) -> dict:
    zero: dict = {"stage": case.stage}
    if case.stage == 3 and (case.adapter or case.frozen):  # small weights, too, are released after every use
        zero["stage3_param_persistence_threshold"] = 0
    if case.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {"zero_optimization": zero}


def plain_gradients(case: Case, *, in_one_batch: bool = True) -> dict[str, Tensor]:
    """Compute the same step with autograd over one graph. With dropout: with the same micro-batches and masks.

    In half precision: with torch's autocast around the encoder, and for fp16 a loss scale; or with rounded weights.
    """
    encoder = encoder_of(case).to(weight_dtype(case.precision)).train()
    with torch.autocast("cpu", dtype=AUTOCAST.get(case.precision), enabled=case.precision in AUTOCAST):
        plan, table = plain_table(case, encoder, in_one_batch=in_one_batch)
    scale = 2.0**10 if case.precision == "fp16" else 1.0
    objective = tiny_objective("reference", case.mixture, negatives=case.negatives)
    (objective(plan, torch.stack(table).float()).loss * scale).backward()
    return {name: p.grad.float() / scale for name, p in encoder.named_parameters() if p.grad is not None}


def plain_table(case: Case, encoder: Encoder, *, in_one_batch: bool) -> tuple[StepPlan, list[Tensor]]:
    """The step's plan and the embedding of each of its texts, with a graph."""
    texts, plan, scheduled = tiny_schedule(case)
    table: list[Tensor] = [torch.empty(0)] * len(texts)
    if case.dropout or not in_one_batch:
        for rank, batches in enumerate(scheduled.micro_batches):
            for index, rows in enumerate(batches):
                torch.manual_seed(derive_key(5, "dropout", 1, rank, index) & (2**63 - 1))
                batch = pad([texts[t] for t in rows])
                for t, embedding in zip(rows, encoder(batch.input_ids_BL, batch.attention_mask_BL), strict=False):
                    table[t] = embedding
    else:
        batch = pad(texts)
        table = list(encoder(batch.input_ids_BL, batch.attention_mask_BL))
    if case.negatives:
        plan = masked_by_loops(plan, tiny_encoder(seed=8), texts)
    return plan, table


def relative_error(gradients: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """|g - truth| / |truth| over the whole gradient vector."""
    names = sorted(truth)
    assert sorted(gradients) == names
    error = torch.cat([(gradients[name] - truth[name]).flatten() for name in names])
    return float(error.norm() / torch.cat([truth[name].flatten() for name in names]).norm())


def errors_on_ranks(cases: list[Case]) -> list[float]:
    """Runs on a rank: return the error of each case, from the gradients that this rank holds."""
    truths: dict[Case, dict[str, Tensor]] = {}
    errors = []
    for case in cases:
        key = replace(in_one_process(case), precision="fp32")
        if key not in truths:
            truths[key] = plain_gradients(key)
        errors.append(relative_error(engine_gradients(case), truths[key]))
    return errors


def limit(case: Case) -> float:
    """Largest allowed error of a case."""
    if case.precision == "fp32":
        return 1e-5
    return 1.5 * naive_error(in_one_process(case))


def in_one_process(case: Case) -> Case:
    """The case without what plain autograd does not know."""
    return replace(
        case,
        stage=0,
        offload=False,
        kept="none",
        implementation="chunked",
        gather="table",
        compiled=False,
        recomputed=False,
    )


@cache
def naive_error(case: Case) -> float:
    """The error of plain autograd with the case's precision in one process.

    Rounding depends on the micro-batches, so plain autograd runs with one and with several; the larger error counts.
    """
    truth = plain_gradients(replace(case, precision="fp32"))
    naive = [plain_gradients(case, in_one_batch=in_one_batch) for in_one_batch in (True, False)]
    return max(relative_error(gradients, truth) for gradients in naive)


def measure(world: int, *, all_of_them: bool = False) -> dict[Case, float]:
    """Run every case of one world size and return its largest error over the ranks. See `partial_cases`."""
    cases_of_world = cases(world) + partial_cases(world, all_of_them=all_of_them)
    per_rank = run_ranks(world, errors_on_ranks, cases_of_world, timeout=TIMEOUT)
    return dict(zip(cases_of_world, np.max(per_rank, axis=0).tolist(), strict=True))


def main() -> None:
    """Print the error of every case. Exit status 1 if an error is above its limit."""
    prepare_environment()
    failed = 0
    for world in (1, 2, 3):
        for case, error in measure(world, all_of_them=True).items():
            bound = limit(case)
            failed += error >= bound
            print(f"{case!s:70s} {error:.1e} (limit {bound:.1e}){'' if error < bound else '  FAILED'}", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
