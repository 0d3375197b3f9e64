"""Floor 7: the command line. Reads arguments, checks the recipe, and only then imports what does the work."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from harness import __version__
from harness.quiet import prepare_environment

OTHER_RANKS_WAIT_SECONDS = 10.0  # launchers need about a second to notice that rank 0 has ended

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Recipe = Annotated[
    str, typer.Argument(help="A recipe of this package (demo, finetune_small, pretrain, finetune) or a YAML file.")
]
Model = Annotated[
    str,
    typer.Argument(help="A run folder, a checkpoint, a sentence-transformers or transformers folder, or a hub name."),
]
MaxLength = Annotated[int | None, typer.Option(min=4, help="Tokens of a text (default: the model's own).")]
Pooling = Annotated[
    Literal["cls", "mean", "last"] | None,
    typer.Option(help="For models that do not say how token states become one vector."),
]
Precision = Annotated[Literal["fp32", "bf16"], typer.Option(help="The numbers of the forward pass.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the recipe, e.g. `training.steps=100` or `tasks.faq.quota=32`. May be repeated.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where relative data paths are looked up, too."),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show what DeepSpeed, torch and transformers have to say.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def root(
    local_rank: Annotated[int | None, typer.Option("--local_rank", "--local-rank", hidden=True)] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train text-embedding models with more and better negatives, on the GPUs you have.

    On several GPUs, start a command through the launcher: `./launch.sh RECIPE ...`, or
    `deepspeed --num_accelerators N --module harness train RECIPE ...`.

    A mistake in a recipe or in data ends with one line and exit status 2; `HARNESS_DEBUG=1` adds the traceback.
    """
    if local_rank is not None:  # DeepSpeed's launcher puts it before the subcommand
        os.environ.setdefault("LOCAL_RANK", str(local_rank))


@app.command()
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder (default: the recipe's `output`, or runs/NAME).")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Train, evaluate and export: the run folder holds the result.

    A run that was stopped continues from its newest whole checkpoint; one that is finished prints its table.

    - `harness train demo`

    - `harness train demo --set training.steps=100 --set training.seed=1 --output runs/longer`

    - `harness train my_recipe.yaml --data-root ~/data`
    """
    with _user_errors(verbose):
        from harness.config import load_recipe

        changes = list(overrides or ())
        if output is not None:
            changes.append(f"output={json.dumps(str(output))}")
        loaded = load_recipe(recipe, changes, data_root)
        from harness import trainer

        trainer.train(loaded)


@app.command()
def evaluate(
    model: Model,
    data: Annotated[
        list[str],
        typer.Argument(help="Files and folders as README lists them under Your own data, or names under --data-root."),
    ],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the scores as JSON, too.")] = None,
    max_length: MaxLength = None,
    pooling: Pooling = None,
    dims: Annotated[
        list[int] | None,
        typer.Option("--dim", min=1, help="Score the first so many dimensions, too (Matryoshka). May be repeated."),
    ] = None,
    precision: Precision = "fp32",
    data_root: DataRoot = None,
    verbose: Verbose = False,
) -> None:
    """Score a model on local data: retrieval, reranking, STS, pair classification, classification, clustering.

    JSON: `{"datasets": {NAME: {"ndcg_at_10": ..., "spearman": ..., "accuracy": ...}}}`, each with its kind's metrics.

    - `harness evaluate runs/demo data/retrieval/my_questions`

    - `harness evaluate demo-minilm sts/stsb_en/test.jsonl.gz --data-root ~/data --output scores.json`
    """
    with _user_errors(verbose):
        from harness import commands

        commands.evaluate_model(
            model,
            data,
            output=output,
            max_length=max_length,
            pooling=pooling,
            dims=dims,
            data_root=data_root,
            precision=precision,
        )


@app.command()
def mine(
    model: Model,
    queries: Annotated[str, typer.Option(metavar="FILE", help="The training data: queries with their positives.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The bank to write; a killed start is continued.")],
    corpus: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Documents to search, one a row (text, [title]). Default: the data's own."),
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Ranked candidates per query.")] = 100,
    relative: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Keep candidates below this share of the positive's score (NV-Retriever: 0.95)."
        ),
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Keep candidates below the positive's score less this.")] = None,
    index: Annotated[
        Literal["exact", "ivf", "hnsw"],
        typer.Option(help="Approximate search by FAISS, on CPUs, for corpora above --index-above."),
    ] = "exact",
    index_above: Annotated[
        int, typer.Option(min=0, metavar="N", help="Documents up to which search is exact.")
    ] = 1_000_000,
    max_length: MaxLength = None,
    pooling: Pooling = None,
    precision: Precision = "fp32",
    data_root: DataRoot = None,
    verbose: Verbose = False,
) -> None:
    """Rank a corpus for every training query: a bank of hard negatives, for `tasks.NAME.negatives.bank`.

    A query's positives, also those of other rows with the same query, and documents equal to them are left out.

    - `harness mine demo-minilm --queries train/faq.jsonl.gz --out banks/faq`

    - `harness mine runs/demo --queries faq.jsonl --corpus corpus.jsonl --relative 0.95 --out banks/faq`
    """
    with _user_errors(verbose):
        from harness import commands
        from harness.mining.mine import MineSettings

        commands.mine_bank(
            model,
            queries,
            corpus=corpus,
            out=out,
            settings=MineSettings(candidates, relative, margin, index, index_above),
            max_length=max_length,
            pooling=pooling,
            data_root=data_root,
            precision=precision,
        )


@app.command("filter")
def filter_(
    model: Model,
    data: Annotated[str, typer.Argument(help="The pairs: queries with their positives, or prompts with responses.")],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where train.jsonl.gz and the report go; a killed start is continued."),
    ],
    min_score: Annotated[float, typer.Option(min=-1, max=1, help="Drop pairs with a lower cosine.")] = 0.4,
    consistency_top_k: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Drop pairs whose positive is not among the K documents nearest to it."),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(metavar="FILE", help="Those documents (text, [title]). Default: the data's own.")
    ] = None,
    corpus_sample: Annotated[int, typer.Option(min=1, metavar="N", help="How many of them are drawn.")] = 1_000_000,
    duplicates: Annotated[
        Literal["none", "exact", "near"], typer.Option(help="Drop repeated pairs: near takes the exact ones, too.")
    ] = "near",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change another limit, e.g. `rules.max_characters=2000` or `near_threshold=0.9`. May be repeated.",
        ),
    ] = None,
    max_length: MaxLength = None,
    pooling: Pooling = None,
    precision: Precision = "fp32",
    data_root: DataRoot = None,
    verbose: Verbose = False,
) -> None:
    """Keep the pairs of a data set that are worth training on, and report what was dropped and why.

    In this order: junk, exact and near duplicates, pairs that the model scores low, inconsistent pairs.

    - `harness filter demo-minilm pairs.jsonl.gz --min-score 0.4 --out filtered/pairs`

    - `harness filter runs/demo pairs.parquet --consistency-top-k 2 --set rules.min_characters=10 --out filtered/pairs`
    """
    with _user_errors(verbose):
        from harness.filtering.config import FilterConfig
        from harness.recipe_file import apply_override, build

        options = {"min_score": min_score, "consistency_top_k": consistency_top_k, "corpus_sample": corpus_sample}
        tree: dict[str, Any] = {**options, "duplicates": duplicates}
        config = build(FilterConfig, tree, "filter", [apply_override(tree, change) for change in overrides or ()])
        from harness import commands

        commands.filter_data(
            model,
            data,
            corpus=corpus,
            out=out,
            config=config,
            max_length=max_length,
            pooling=pooling,
            data_root=data_root,
            precision=precision,
        )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder or one of its checkpoints.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; must not exist or be empty.")],
    verbose: Verbose = False,
) -> None:
    """Write a run's model as a sentence-transformers folder with a model card.

    The folder is loaded again with sentence-transformers and compared before the command says done.

    - `harness export runs/demo --out my_model`
    """
    with _user_errors(verbose):
        from harness import commands

        commands.export_run(run, out)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.", metavar="RUN...")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write (default: the run's own; one beside the first of many)"),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Draw what runs have recorded: report.html, which needs nothing but itself, and figures/*.png.

    Several runs stand side by side in the same axes; runs that differ in the seed only, as their mean and spread.

    - `harness report runs/demo`

    - `harness report runs/static runs/dynamic --out runs/comparison`
    """
    with _user_errors(verbose):
        from harness import commands

        commands.draw_report(runs, out)


@app.command()
def plan(
    recipe: Recipe,
    step: Annotated[int, typer.Option(min=1, help="The step to show; steps count from 1.")] = 1,
    ranks: Annotated[int, typer.Option(min=1, metavar="W", help="Deal the texts to this many ranks.")] = 1,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    verbose: Verbose = False,
) -> None:
    """Show what one step of a recipe holds, and which rank would encode what. Trains nothing.

    - `harness plan demo --step 3 --ranks 8`
    """
    with _user_errors(verbose):
        from harness.config import load_recipe

        loaded = load_recipe(recipe, list(overrides or ()), data_root)
        from harness import commands

        commands.show_plan(loaded, step, ranks)


@contextmanager
def _user_errors(verbose: bool) -> Iterator[None]:
    """Make the environment ready, and turn a user's mistake into its message and exit status 2."""
    prepare_environment(verbose)
    try:
        yield
    except ValueError as error:
        message = str(error)
        if os.environ.get("HARNESS_DEBUG", "0") not in ("", "0"):
            message = "".join(traceback.format_exception(error)).rstrip()
        elif not _raised_here(error):
            message += "\nThis was raised inside a library; HARNESS_DEBUG=1 shows where."
        _complain(message)
        _leave(2)
    except KeyboardInterrupt:
        _leave(130)
    except Exception:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise
        traceback.print_exc()  # leaving at once: a process group with ranks still in it can hang at teardown
        os._exit(1)


def _raised_here(error: ValueError) -> bool:
    """Whether this project's own code raised the error, not a library below it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = (f"{Path(__file__).parent}{os.sep}", f"{os.sep}fused_contrastive{os.sep}")
    return any(part in frames[-1].filename for part in ours)


def _complain(message: str) -> None:
    """Print to stderr: rank 0 at once; another rank waits, and so speaks only if rank 0 has not ended the job."""
    if _rank() != 0:
        time.sleep(OTHER_RANKS_WAIT_SECONDS)
        message = "\n".join(f"rank {_rank()}: {line}" for line in message.splitlines())
    print(message, file=sys.stderr, flush=True)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _leave(status: int) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # A process group with ranks still in it can hang or abort at teardown and hide the status.
        sys.stdout.flush()
        os._exit(status)
    raise typer.Exit(status)


def main() -> None:
    """The entry point of `harness` and `python -m harness`."""
    if _rank() == 0:
        app()
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a mistake on the command line
            raise
        _complain(error.format_message())
        sys.exit(2)


if __name__ == "__main__":
    main()
