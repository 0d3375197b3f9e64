"""The arguments and options that several commands share, and the lookup of the data paths in them.

Nothing heavy is imported here, so that `harness --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.model_folder.pooling import PoolingMode

Recipe = Annotated[
    str,
    typer.Argument(help="A YAML file, or a recipe of this package, such as demo (docs/configuration.md lists them)."),
]
Model = Annotated[
    str,
    typer.Argument(
        help="A run folder, a checkpoint, a sentence-transformers or transformers folder, a hub name, or demo-minilm "
        "(all-MiniLM-L6-v2, if the extra demo is installed)."
    ),
]
MaxLength = Annotated[int | None, typer.Option(min=4, help="Tokens of a text (default: the model's own).")]
Pooling = Annotated[
    PoolingMode | None,
    typer.Option(help="For models that do not say how token states become one vector."),
]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16", "bf16_weights"],
    typer.Option(help="The numbers of the forward pass. bf16_weights also halves the model's memory; scores are fp32."),
]
QueryPrompt = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help='Put before queries, and before texts of data without documents ("": nothing).'),
]
DocumentPrompt = Annotated[str | None, typer.Option(metavar="TEXT", help='Put before documents ("": nothing).')]
PromptName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="One of the model's prompts, or a task of the run, in place of the default."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="OURS=NAME",
        help="What a column of the training data is, e.g. `query=question`, or `ignore=relevance`. May be repeated.",
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run the code that comes with the model (a run: as its recipe says)."),
]
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


def column_names(given: list[str] | None) -> dict[str, str | tuple[str, ...]]:
    """`--columns` as the `columns` of a task: our name of a column to the file's.

    Raises:
        ValueError: one is not of the form OURS=NAME, or is no column of training data.
    """
    from harness.data.source.config import SEVERAL, check_columns

    names: dict[str, str | tuple[str, ...]] = {}
    for text in given or ():
        ours, sign, name = text.partition("=")
        if not (ours and sign and name):
            raise ValueError(f"--columns: got {text}, expected OURS=NAME, as in query=question")
        if ours in names and ours not in SEVERAL:
            raise ValueError(f"--columns: got {ours} twice, expected it once; only {' and '.join(SEVERAL)} may repeat")
        names[ours] = (*names.get(ours, ()), name) if ours in SEVERAL else name
    check_columns("--columns", "retrieval", names, None)
    return names


def existing_path(path: str, data_root: Path | None) -> str:
    """The absolute path of data that the command line names.

    Raises:
        ValueError: it does not exist.
    """
    from harness.run.places import locate_data

    return locate_data(path, data_root=data_root, allow_hub=False)
