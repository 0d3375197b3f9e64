"""The options of `harness evaluate` that concern mteb's tasks. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Benchmark = Annotated[
    str | None,
    typer.Option(metavar="NAME", help='Score on the tasks of a benchmark of mteb, such as "MTEB(cmn, v1)".'),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--tasks", metavar="NAME ...", help="Score on these tasks of mteb, also besides a benchmark's."),
]
Language = Annotated[
    list[str] | None,
    typer.Option("--language", metavar="CODE", help="mteb: of tasks in several languages, only this. May be repeated."),
]
TaskFile = Annotated[
    Path | None,
    typer.Option(
        "--task-file",
        metavar="FILE",
        help="mteb: run this Python file, whose tasks can be named, too; without names, all.",
    ),
]
Results = Annotated[
    Path | None,
    typer.Option("--results", metavar="DIR", help="mteb: its folder, which gets results/ORG__NAME/... [default: mteb]"),
]
ModelName = Annotated[
    str | None, typer.Option("--model-name", metavar="ORG/NAME", help="mteb: the model's name in the results.")
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision", metavar="TEXT", help="mteb: the model's revision in the results [default: of its weights]."
    ),
]
ModelMeta = Annotated[
    Path | None,
    typer.Option("--model-meta", metavar="FILE", help="mteb: fields of model_meta.json (YAML): license, languages ..."),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts", metavar="FILE", help="mteb: prompts by its names (YAML): STS, T2Retrieval-query, query ..."
    ),
]
InstructionTemplate = Annotated[
    str | None,
    typer.Option(
        "--instruction-template", metavar="TEXT",
        help="mteb: put before queries and sentences; {instruction} becomes what mteb says of the task.",
    ),
]  # fmt: skip
Overwrite = Annotated[bool, typer.Option("--overwrite", help="mteb: score again what has scores already.")]


def mteb_request(
    given: Mapping[str, Any], positional: Sequence[str], data_root: Path | None, ignore_identical_ids: bool
) -> dict[str, Any] | None:
    """What is asked of mteb, None if nothing is. A name after `--tasks NAME` is one more task.

    Raises:
        ValueError: options that do not go together, or neither data nor tasks.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if not options.keys() & {"benchmark", "tasks", "task_file"}:
        if options:
            name = next(iter(options)).replace("_", "-").replace("template", "instruction-template")
            raise ValueError(
                f"--{name.replace('languages', 'language')}: is for mteb, expected --benchmark or --tasks, too"
            )
        if not positional:
            raise ValueError("DATA: got nothing, expected files or folders to score on, or --benchmark, or --tasks")
        return None
    if positional and "tasks" not in options:
        raise ValueError(
            f"DATA: got {positional[0]} beside tasks of mteb, expected one or the other; evaluate your own data with a "
            "command of its own"
        )
    files = [name for name in positional if Path(name).exists() or "/" in name]
    if files:
        raise ValueError(
            f"--tasks: got {files[0]}, a path, expected names of tasks; evaluate files with a command of its own"
        )
    if ignore_identical_ids:
        raise ValueError("--ignore-identical-ids: is for your own data; each task of mteb says it itself")
    lists: dict[str, Any] = {name: tuple(options[name]) for name in ("tasks", "languages") if name in options}
    if "tasks" in lists:
        lists["tasks"] += tuple(positional)
    return {**options, **lists, "data": data_root}
