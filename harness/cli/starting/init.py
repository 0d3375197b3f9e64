"""`harness init`: a starting recipe from the data that there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from harness.cli.mistakes import mistakes_in_one_line

Answer = TypeVar("Answer", str, int, float)

if TYPE_CHECKING:
    from harness.inspection.look import Seen
    from harness.inspection.starting_recipe import Answers


def init(
    data: Annotated[list[Path], typer.Argument(help="Files of training data, or folders of them.")],
    out: Annotated[Path, typer.Option(metavar="FILE.yaml", help="The recipe to write.")] = Path("recipe.yaml"),
    model: Annotated[
        str | None, typer.Option(help="A folder or a hub name (default: by the script of the texts).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what was measured.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the recipe if it is there.")] = False,
) -> None:
    """Look at data, ask what cannot be seen there, and write a recipe to start from.

    Files called test or dev, and BEIR folders, are scored; all others are trained on, each as a task. Without a
    terminal nothing is asked.

    - `harness init my_data --model runs/demo/model`

    - `harness init train.jsonl pairs.csv --yes --out my_recipe.yaml`
    """
    with mistakes_in_one_line(verbose=False):
        asks = not yes and _is_terminal()
        if out.exists() and not overwrite and not (asks and typer.confirm(f"{out} exists. Replace it?", default=False)):
            raise ValueError(f"--out: got {out}, which exists, expected a new file; add --overwrite to replace it")
        tree, text = _recipe(data, model, out, asks=asks)
        from harness.config import check_tree
        from harness.files import replace_file

        check_tree(tree, str(out), out.parent)
        replace_file(out, text)
        print(f"wrote {out}; next: harness plan {out}, then harness train {out} (several GPUs: harness launch {out})")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _recipe(data: list[Path], model: str | None, out: Path, *, asks: bool) -> tuple[dict[str, Any], str]:
    """The recipe's values, and its text."""
    from harness.inspection.lengths import measure_of
    from harness.inspection.look import look_at
    from harness.inspection.starting_recipe import as_text, default_model, starting_recipe

    seen = look_at(data, measure_of(model).measure)
    chosen = model or _asked("model", default_model(seen), asks)
    tokens = measure_of(chosen)
    if model is None and tokens.is_exact:
        seen = look_at(data, tokens.measure)
    _show(seen, tokens.is_exact)
    tree = starting_recipe(seen, _answers(seen, chosen, tokens.limit, data[0], asks=asks), out.parent)
    return tree, as_text(tree, seen)


def _answers(seen: Seen, model: str, limit: int | None, place: Path, *, asks: bool) -> Answers:
    import os

    from harness.inspection.starting_recipe import Answers, default_batch, default_max_length
    from harness.process.launch_words import num_gpus
    from harness.settings.plain_name import plain_name

    cores_only = num_gpus(os.environ) == 0
    rows = sum(file.rows for file in seen.training)
    name = place.absolute().name.split(".")[0]
    return Answers(
        name=_asked("name of the run", plain_name(name, "run"), asks),
        model=model,
        max_length=_asked("longest text, tokens", default_max_length(seen, limit), asks),
        batch=_asked("examples of a step, over all tasks and GPUs", default_batch(seen, cores_only=cores_only), asks),
        epochs=_asked("epochs", 3.0 if rows < 20_000 else 1.0, asks),
        precision=_asked("precision (fp32, bf16, fp16)", "fp32" if cores_only else "bf16", asks),
        cores_only=cores_only,
    )


def _asked(what: str, default: Answer, asks: bool) -> Answer:
    """The user's answer; without a terminal the default, which is printed."""
    if asks:
        return typer.prompt(what, default=default, type=type(default))
    print(f"{what}: {default}")
    return default


def _show(seen: Seen, is_exact: bool) -> None:
    import numpy as np

    unit = "tokens" if is_exact else "tokens (estimated by characters: the model's tokenizer is not here)"
    for file in seen.training:
        longest = int(np.quantile(file.lengths, 0.95)) if len(file.lengths) else 0
        more = (
            f", {file.negatives} negatives"
            if file.kind == "retrieval"
            else f", {file.labels} labels"
            if file.labels
            else ""
        )
        bad = f"; {file.bad_rows} of the first rows cannot be used ({file.bad_row})" if file.bad_rows else ""
        facts = f"{file.kind}, {file.rows_in_words} rows{more}, 95 % within {longest} {unit}, {file.script} letters"
        print(f"{file.path}: {facts}{bad}")
    for path in seen.evaluation:
        print(f"{path}: evaluation")
    for path, reason in seen.left_out:
        print(f"{path}: left out: {reason}")
    if not seen.evaluation:
        print("no evaluation data: nothing will be scored; files called test or dev would be")
