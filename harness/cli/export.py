"""`harness export`: a run's model as a folder for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.mistakes import mistakes_in_one_line
from harness.cli.options import DataRoot, TrustRemoteCode, Verbose

if TYPE_CHECKING:
    from harness.cli.parts.exported_forms import Forms, ScoredData
    from harness.data.table.tokenisation import Tokeniser
    from harness.encoder.config import ModelConfig
    from harness.encoder.encoder import Encoder
    from harness.export.hub import Upload
    from harness.run.averaging.facts import AveragedWeights
    from harness.run.folder import RunFolder

_COMPARED_TEXTS = ("A text to compare.", "Another one, a little longer than the first.", "第三句话。", "x")
Format = Literal["sentence-transformers", "onnx"]


def export(
    run: Annotated[Path, typer.Argument(help="A run folder or one of its checkpoints.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; must not exist or be empty.")],
    step: Annotated[
        int | None, typer.Option(min=1, help="The checkpoint of this step in place of the run's model.")
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", help="onnx: put the whole model beside the weights, as onnx/model.onnx, too.")
    ] = "sentence-transformers",
    int8: Annotated[
        bool, typer.Option("--int8", help="With --format onnx: int8 weights, as onnx/model_quantized.onnx, too.")
    ] = False,
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16"],
        typer.Option(help="The numbers of the weights. Without it they are the fp32 master weights."),
    ] = "fp32",
    average: Annotated[
        str | None,
        typer.Option(
            metavar="last:N|greedy",
            help="The mean of checkpoints' weights: of the newest N, or of those that raise the score on --data.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Score each form, and an average, on this evaluation data (an average by default on the run's own). "
            "May be repeated.",
        ),
    ] = None,
    data_root: DataRoot = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what each form changes as JSON, too.")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option("--push-to-hub", metavar="ORG/NAME", help="Upload the folder to this repository.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="The branch to upload to (default: main).")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's model as a sentence-transformers folder with a model card.

    The folder is loaded again with sentence-transformers and compared before the command says done. Other forms of it
    (--dtype, --format onnx, --int8) are compared with the fp32 weights, and scored if --data is given.

    - `harness export runs/demo --out my_model`

    - `harness export runs/demo --out my_model --format onnx --int8 --data data/my_questions`

    - `harness export runs/demo --out my_model --average last:3`

    - `harness export runs/demo --out my_model --push-to-hub my-org/my-model --private`
    """
    with mistakes_in_one_line(verbose):
        export_run(
            run,
            out,
            step=step,
            with_onnx=format == "onnx",
            int8=int8,
            dtype=dtype,
            average=average,
            data=data,
            data_root=data_root,
            output=output,
            push_to_hub=push_to_hub,
            private=private,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )


def export_run(
    run: Path,
    out: Path,
    *,
    step: int | None = None,
    with_onnx: bool = False,
    int8: bool = False,
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32",
    average: str | None = None,
    data: list[str] | None = None,
    data_root: Path | None = None,
    output: Path | None = None,
    push_to_hub: str | None = None,
    private: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Write a run's (or a checkpoint's) model as a sentence-transformers folder, reload it and compare embeddings.

    step: of the checkpoint to take; None: the run's model. The rest: see the command's help.
    """
    from harness.cli.parts.exported_forms import Forms

    forms = Forms.asked_for(
        with_onnx=with_onnx,
        int8=int8,
        dtype=dtype,
        data=data,
        data_root=data_root,
        output=output,
        averaged=average is not None,
    )
    push = _checked_push(push_to_hub, private=private, revision=revision)
    _export(run, out, step, forms, trust_remote_code, average)
    if push is not None:
        print(f"uploaded {out}: {push(out)}")


def _export(run: Path, out: Path, step: int | None, forms: Forms, trust_remote_code: bool, average: str | None) -> None:
    from rich.console import Console

    from harness.data.table.tokenisation import Tokeniser
    from harness.encoder.load import load_encoder
    from harness.files import check_output
    from harness.model_folder.preflight import COMMAND_LINE, Preflight
    from harness.run.export import export_model
    from harness.run.folder import RunFolder
    from harness.run.places import BYTES_OF_EXPORT

    _check_out(out)
    folder = RunFolder.containing(run)
    source, step = _newest_of_average(run, folder, step, average) if average else _source(run, folder, step)
    trust = trust_remote_code or folder.config.model.trust_remote_code
    config = _as_exported(folder.config.model, source, trust)
    num_weights = Preflight(source, COMMAND_LINE, trust, longest_text=config.longest_text).check()
    check_output(out, "--out", BYTES_OF_EXPORT * num_weights)
    encoder, tokeniser, averaged = load_encoder(config).eval(), Tokeniser(source, trust), None
    scored = forms.open_data(folder, str(run), of_run=average is not None)
    if average:
        encoder, averaged = _average(folder, average, config, tokeniser, scored)

    def add_forms(written: Path) -> None:
        forms.write(written, encoder, tokeniser, config, scored, _COMPARED_TEXTS)

    difference = export_model(
        out, folder, encoder, tokeniser,
        model=config, step=step, check_texts=_COMPARED_TEXTS, then=add_forms, averaged=averaged,
    )  # fmt: skip
    of_step = ", an average" if averaged else "" if step is None else f", step {step}"
    Console().print(
        f"exported {out}{of_step}: embeddings equal the training model's within {difference:.1e}", soft_wrap=True
    )
    forms.show(out, step)


def _check_out(out: Path) -> None:
    from harness.files import check_output

    check_output(out, "--out")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"--out: got {out}, which is not empty, expected a new or empty folder; name another one")


def _newest_of_average(run: Path, folder: RunFolder, step: int | None, average: str) -> tuple[str, int]:
    """(the newest of the checkpoints to average, whose folder says what the model is; its step)."""
    from harness.run.averaging.choice import OPTION, Average
    from harness.run.resuming.recognise import is_run_folder

    if step is not None:
        raise ValueError(f"--step: got {step} with {OPTION} {average}, expected one of them; leave the other out")
    if not is_run_folder(run):
        raise ValueError(f"{OPTION}: got {average} with {run}, expected it with a run folder; name the run")
    newest = Average.parsed(average).steps(folder)[-1]
    return str(folder.checkpoints.at(newest, OPTION) / "model"), newest


def _average(
    folder: RunFolder, average: str, model: ModelConfig, tokeniser: Tokeniser, scored: ScoredData | None
) -> tuple[Encoder, AveragedWeights]:
    """The encoder with the mean of the checkpoints' weights; prints what was averaged, and its scores."""
    from harness.cli.parts.averaged import averaged, show
    from harness.encoder.load import load_encoder
    from harness.run.averaging.choice import Average

    def load(source: Path) -> Encoder:
        return load_encoder(model.model_copy(update={"name_or_path": str(source)}))

    encoder, facts = averaged(folder, Average.parsed(average), load, tokeniser, scored)
    show(facts)
    return encoder, facts


def _as_exported(model: ModelConfig, source: str, trust: bool) -> ModelConfig:
    """The comparison runs on the CPU, whatever the run has trained on."""
    from harness.encoder.partial.config import FreezeSettings

    changes = {"name_or_path": source, "trust_remote_code": trust, "attention": "auto", "freeze": FreezeSettings()}
    # A checkpoint's model/ holds the trained adapter, a finished run's holds it merged.
    return model.model_copy(update={**changes, "lora": None})


def _source(run: Path, folder: RunFolder, step: int | None) -> tuple[str, int | None]:
    """(the folder with the weights, how many steps they were trained for; None: not known)."""
    from harness.engine.checkpoint import STATE, read_state
    from harness.run.resuming.recognise import is_run_folder, model_folder

    if step is not None:
        if not is_run_folder(run):
            raise ValueError(
                f"--step: got {step} with {run}, expected it with a run folder; name the run, or leave it out"
            )
        if step == folder.model_step():
            return str(folder.model), step
        return str(folder.checkpoints.at(step, "--step") / "model"), step
    source = model_folder(str(run))
    checkpoint = Path(source).parent
    if (checkpoint / STATE).is_file():
        return source, int(read_state(checkpoint)["step"])
    return source, folder.model_step() if Path(source).absolute() == folder.model.absolute() else None


def _checked_push(name: str | None, *, private: bool, revision: str | None) -> Upload | None:
    """The function that uploads a folder, its repository's name and the token checked; None: nothing is uploaded."""
    if name is None:
        wrong = "--private" if private else "--revision" if revision is not None else None
        if wrong:
            raise ValueError(
                f"{wrong}: got it without --push-to-hub, expected both; name the repository, or leave it out"
            )
        return None
    from harness.export.hub import Upload

    upload = Upload(name, private=private, revision=revision)
    upload.check()
    return upload
