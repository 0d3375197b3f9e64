"""The paper's ablation: vanilla, cross-GPU batch balance, dynamic hard negative mining, both, and a control.

    python -m benchmarks.ablation --data-root DIR --out FOLDER [--size small] [--jobs 2] [--only ARM:SEED ...]
    python -m benchmarks.ablation --out FOLDER --table        # what is finished so far; trains nothing

A run trains retrieval, similarity and classification from one starting model; `ablation_recipes` says what an arm
holds in a step and `ablation_data` what is held out. Every run is `harness train`, then `harness evaluate`, in
processes of their own; what is finished is not done again: the same command continues a killed start. FOLDER gets
result.md, result.json, report.html and figures/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.ablation_data import HELD_OUT, RETRIEVAL, write_data
from benchmarks.ablation_recipes import ARMS, MODEL, SIZES, Size, recipe
from benchmarks.experiment import FACTS, agreed_facts, chosen_runs, mine, run_all, score_model
from harness.quiet import prepare_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="holds train/, retrieval/, sts/ and classification/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="small: two CPU cores; gpu: a GPU")
    parser.add_argument("--model", default=MODEL, help="the starting model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", action="append", metavar="ARM:SEED", help=f"one run; arms: {', '.join(ARMS)}")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; set OMP_NUM_THREADS to cores / jobs")
    parser.add_argument("--table", action="store_true", help="only write and print the results of finished runs")
    given = parser.parse_args()
    prepare_environment()
    out = given.out.resolve()
    try:
        if not given.table:
            if given.data_root is None:
                raise ValueError("--data-root: got none, expected the folder of the data; or give --table")
            runs = chosen_runs(given.only, tuple(ARMS), given.seeds)
            run(runs, given.data_root, out, given.model, SIZES[given.size], given.jobs)
        from benchmarks.ablation_result import write_result

        print(write_result(out, json.loads((out / FACTS).read_text(encoding="utf-8"))))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"status {error.returncode} of: {' '.join(map(str, error.cmd))}")


def run(runs: list[tuple[str, int]], root: Path, out: Path, model: str, size: Size, jobs: int) -> None:
    """Data, bank, the starting model's scores, then the runs; what stands there already is not made again."""
    data, settings = out / "data", {"model": model, "size": asdict(size)}
    agreed_facts(out, settings, lambda: {"rows": write_data(root, data, size.data)})
    mine(model, out, data, RETRIEVAL, candidates=size.candidates, max_length=size.max_length)
    held_out = [data / path for path in HELD_OUT.values()]
    score_model(model, out, "start", held_out, size.max_length)
    run_all(runs, lambda arm, seed: recipe(arm, seed, size, model=model, out=out), out, held_out, size.max_length, jobs)


if __name__ == "__main__":
    main()
