"""The start under ZeRO-3, the export at a checkpoint, and the embedding table of a step, whole and passed on.

Memory of the start is what a rank's own pages grow by (RssAnon; Linux only): pages of mapped model files are shared by
all processes and given back when others need them.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.growth.row import Row
from benchmarks.runner.on_ranks import measured, on_ranks

LAYERS, WIDTH, VOCABULARY = 10, 768, 8_000  # a decoder of 290 MiB in fp32, stored in bf16
TEXTS, DIMS, RANKS = 12_000, 384, 2
_MIB = 2**20


def rows(scale: float = 1.0) -> list[Row]:
    """scale: of the number of layers, and of the number of texts in a step."""
    with tempfile.TemporaryDirectory() as folder:
        _make_model(Path(folder) / "decoder", max(1, round(LAYERS * scale)))
        started = on_ranks(RANKS, start_peak, str(Path(folder) / "decoder"))
        exported = _export(Path(folder), max(1, round(6 * scale)))
    peak, shard, largest, seconds, cpu = (max(values) for values in zip(*started, strict=True))
    allowed = int(1.3 * shard + largest)
    size = f"{RANKS} ranks, shard of {shard / _MIB:.0f} MiB, largest weight {largest / _MIB:.0f} MiB"
    goal = f"<= 1.3 x shard + largest weight = {allowed / _MIB:.0f} MiB"
    return [Row("ZeRO-3 start", size, seconds, cpu, peak, goal, peak <= allowed), exported, *_tables(scale)]


def start_peak(folder: str) -> tuple[int, int, int, float, float]:
    """Runs on a rank: peak bytes while the weights are loaded and divided, shard, largest weight, seconds, CPU s."""
    from harness.encoder.config import ModelConfig
    from harness.encoder.load import load_encoder
    from harness.engine import zero
    from harness.engine.config import TrainingConfig

    zero.skip_slow_compilation()
    settings = zero.engine_json({"zero_optimization": {"stage": 3}}, TrainingConfig(steps=1))
    config = ModelConfig(name_or_path=folder, pooling=("last",))
    with measured() as cost, _own_pages() as growth:
        encoder = load_encoder(config, as_stored=True)
        zero.divide_weights(encoder, settings)
    divided: list[Any] = list(encoder.parameters())  # DeepSpeed has added its attributes to them
    sizes = [4 * parameter.ds_numel for parameter in divided]
    shard = sum(4 * parameter.ds_tensor.numel() for parameter in divided)
    return growth(), shard, max(sizes), cost.seconds, cost.cpu_seconds


def gather_peaks(count: int) -> dict[str, tuple[int, float, float]]:
    """Runs on a rank: per value of `loss.gather`, how much its own memory grows by a step's losses, seconds, CPU s."""
    import numpy as np
    import torch

    from harness import comm
    from harness.data.batch.deal import deal
    from harness.losses.config import LossConfig
    from harness.losses.interface import TaskLossSettings
    from harness.losses.objective import Objective
    from harness.losses.table import DividedTable, WholeTable
    from harness.types import QueryPart, RaggedLists, StepPlan, StepTexts

    half = np.arange(count // 2)
    lists = np.full((len(half), 0), -1), RaggedLists.of_pairs(half[:0], half[:0], len(half))
    part = QueryPart("a", half, half, half + len(half), half[:, None], lists[0], lists[0], lists[1], False)
    length_T = np.full(2 * len(half), 8)
    plan = StepPlan(1, StepTexts(np.zeros(len(length_T), np.int32), np.arange(len(length_T)), length_T), (part,))
    schedule = deal(length_T, comm.world_size(), 1 << 20)
    objective = Objective([TaskLossSettings("a")], LossConfig(), None, None)
    found = {}
    for gather in ("ring", "table"):
        local_RD = torch.randn(schedule.rows_per_rank, DIMS)
        with measured() as cost, _own_pages() as growth:
            table = WholeTable(local_RD, schedule) if gather == "table" else DividedTable(local_RD, schedule, half[:0])
            rows = table if isinstance(table, DividedTable) else table.row_TD
            objective.backward(plan, rows, (comm.rank(), comm.world_size()), comm.RingPeers())
            table.gradient()
        found[gather] = growth(), cost.seconds, cost.cpu_seconds
        del table, rows
    return found


def _tables(scale: float) -> Iterator[Row]:
    from harness.losses.table import gather_bytes

    count = 2 * round(TEXTS * scale / 2)
    found = on_ranks(RANKS, gather_peaks, count)
    for gather in ("table", "ring"):
        peak, seconds, cpu = (max(values) for values in zip(*(rank[gather] for rank in found), strict=True))
        bound = gather_bytes(gather, count, 0, DIMS, RANKS) + 2 * 32 * _MIB  # and the kernel's workspace
        size = f"{count:,} texts x {DIMS}, {RANKS} ranks"
        goal = f"<= prediction + workspace = {bound / _MIB:.0f} MiB"
        yield Row(f"loss.gather: {gather}", size, seconds, cpu, peak, goal, peak <= bound)


def _make_model(folder: Path, layers: int) -> None:
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=6,
        head_dim=64,
        max_position_embeddings=512,
    )
    Qwen3Model(config).bfloat16().save_pretrained(folder)


def _export(folder: Path, layers: int) -> Row:
    """What rank 0 does at a checkpoint, with a model of the size of MiniLM, while the others wait."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from harness.encoder.config import ModelConfig
    from harness.encoder.load import load_encoder
    from harness.export.sentence_transformers_folder import write_model
    from harness.prompts import ModelPrompts

    model = BertConfig(hidden_size=384, num_hidden_layers=layers, num_attention_heads=12, intermediate_size=1536)
    BertModel(model).save_pretrained(folder / "bert")
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder / "bert")
    config = ModelConfig(name_or_path=str(folder / "bert"), pooling=("mean",))
    encoder = load_encoder(config)
    state = encoder.state_dict()
    write_model(folder / "first", encoder, state, tokenizer, config, prompts=ModelPrompts(), card="")  # imports
    with measured() as cost, _own_pages() as growth:
        write_model(folder / "out", encoder, state, tokenizer, config, prompts=ModelPrompts(), card="")
    size = f"{sum(value.numel() for value in state.values()) / 1e6:.0f} M weights"
    return Row("export at a checkpoint", size, cost.seconds, cost.cpu_seconds, growth(), "weights written once", None)


@contextmanager
def _own_pages() -> Iterator[Callable[[], int]]:
    """Gives a function that returns by how many bytes this process's own pages grew at most inside the block."""
    start, stop = _rss_anon(), threading.Event()
    peak = [start]

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], _rss_anon())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield lambda: peak[0] - start
    stop.set()
    watcher.join()


def _rss_anon() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])
