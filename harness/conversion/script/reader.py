"""Reads a sentence-transformers training script without running it: model, losses, arguments, data sets.

Literals are read, names that they were assigned to, and the calls that load data or make a loss. What is computed is
said, never guessed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from harness.conversion.given.given import Given
from harness.conversion.script.expressions import LOADERS, Expressions, is_computed, name_of
from harness.conversion.script.values import COMPUTED, POSITIONS, TRAINER, Column, DataSet, LossCall, Model

_ARGUMENTS = ("SentenceTransformerTrainingArguments", "TrainingArguments")
_TRAINERS = ("SentenceTransformerTrainer", "Trainer")
_OF_LOSSES = (
    "scale", "temperature", "mini_batch_size", "mini_batch_num_tokens", "gather_across_devices", "matryoshka_dims",
    "matryoshka_weights", "n_dims_per_step",
)  # fmt: skip

_OF_NO_MODEL = ("device", "model_card_data", "cache_folder", "token")  # need no word


def of_script(text: str, path: Path) -> Given:
    """The arguments of a training script.

    Raises:
        ValueError: it is no Python, or no script of sentence-transformers.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno}: got {error.msg}, expected Python") from None
    reader = _Reader()
    reader.visit(tree)
    reader.finish()
    given = reader.given
    if not given.arguments and not given.losses:
        raise ValueError(
            f"{path}: got no SentenceTransformer, no loss and no training arguments, expected a training script of "
            "sentence-transformers; other trainers: give the command line"
        )
    return given


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.given = Given("sentence-transformers", {})
        self._known = Expressions()
        self._models: list[Model] = []
        self._data: list[DataSet] = []
        self._losses: list[LossCall] = []
        self._trainer: dict[str, ast.expr] = {}
        self._trained: dict[str, Any] = {}

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if node.value is not None:
            self._assign(node.target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._known.assign(target.id, value)
        elif isinstance(target, ast.Attribute) and target.attr == "max_seq_length":
            self._take("max_seq_length", value)

    def visit_Call(self, node: ast.Call) -> None:
        name = name_of(node)
        if name == "SentenceTransformer":
            self._models.append(self._known.of(node))
        elif name in _ARGUMENTS:
            self._training_arguments(node)
        elif name in LOADERS:
            self._loaded(name, node)
        elif name in _TRAINERS:
            self._trainer = dict(zip(TRAINER, node.args, strict=False))
            self._trainer |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
            self._trained = {key: self._known.of(value) for key, value in self._trainer.items()}
        elif name.endswith("Loss"):
            self._loss(name, node)
        elif name.endswith("Evaluator") and name != "SequentialEvaluator":
            self._evaluator(name, node)
        self.generic_visit(node)

    def _training_arguments(self, node: ast.Call) -> None:
        if node.args:
            self._take("output_dir", node.args[0])
        for keyword in node.keywords:
            value = self._known.of(keyword.value)
            if keyword.arg is None and isinstance(value, dict) and not is_computed(value):
                self.given.arguments |= value
            else:
                self._take(keyword.arg or "**arguments", keyword.value)

    def _loaded(self, name: str, node: ast.Call) -> None:
        value = self._known.of(node)
        if isinstance(value, DataSet):
            self._data.append(value)
        else:
            self._unread(name, node.args[0] if node.args else node)

    def _loss(self, name: str, node: ast.Call) -> None:
        value = self._known.of(node)
        if isinstance(value, LossCall) and not value.inside:
            self._losses.append(value)
        self.given.losses += () if name == "MatryoshkaLoss" else (name,)
        arguments = dict(zip(POSITIONS.get(name, ("model",)), node.args, strict=False))
        arguments |= {str(keyword.arg): keyword.value for keyword in node.keywords}
        for argument, given in arguments.items():
            if argument in _OF_LOSSES:
                self._take(argument, given)
            elif argument not in ("model", "loss", "guide", "teacher_model"):
                self.given.unread.append(
                    f"{name}({argument}=...), line {node.lineno}: not read; see docs/tasks_and_losses.md"
                )

    def _evaluator(self, name: str, node: ast.Call) -> None:
        """An evaluator's data, where its columns are those of a data set; its name is what metrics are called by."""
        values = self._known.arguments(node)
        found = next((value.of for value in values.values() if isinstance(value, Column)), None)
        if found is None:
            why = "its data is made in the script; write it to files (docs/data.md) and name them in evaluation.data"
            self.given.unread.append(f"{name}, line {node.lineno}: {why}")
        else:
            self.given.scored.append((str(values.get("name", "")), found.resolved))

    def finish(self) -> None:
        """Put together what the trainer was given: its model, its data sets with their losses, and what is scored."""
        self._finish_model()
        scored = self._trained.get("eval_dataset")
        for one in scored.values() if isinstance(scored, dict) else [scored]:
            if isinstance(one, DataSet):
                self.given.scored.append(("", one.resolved))
            elif one is COMPUTED:
                self._unread("eval_dataset", self._trainer["eval_dataset"])
        losses = self._trained.get("loss", COMPUTED)
        for index, (name, one) in enumerate(self._training_data()):
            loss = losses.get(name, COMPUTED) if isinstance(losses, dict) else losses
            if not isinstance(loss, LossCall):  # no trainer, or a loss that is computed: in their order
                loss = self._losses[min(index, len(self._losses) - 1)] if self._losses else None
            self.given.data.append((name, one, loss))
        self._say_unused()

    def _finish_model(self) -> None:
        """The model that the trainer or a loss is given, else the first: a script may load a guide and its result."""
        ways = [self._trained.get("model"), *(call.model for call in self._losses), *self._models]
        model = next((way for way in ways if isinstance(way, Model)), None)
        if model is not None:
            settings = {"model_name_or_path": model.name, **model.settings}
            known = {key: value for key, value in settings.items() if not is_computed(value)}
            self.given.arguments = {**known, **self.given.arguments}
            why = "of SentenceTransformer is computed; set it by hand"
            self.given.unread += [f"{key} {why}" for key in settings if key not in known and key not in _OF_NO_MODEL]

    def _training_data(self) -> list[tuple[str, DataSet]]:
        trained = self._trained.get("train_dataset")
        if isinstance(trained, DataSet):
            return [("", trained.resolved)]
        if isinstance(trained, dict) and all(isinstance(one, DataSet) for one in trained.values()):
            return [(str(name), one.resolved) for name, one in trained.items()]
        if trained is not None:
            why = "computed, so the recipe has every data set that the script loads and does not score; take out others"
            self.given.unread.append(f"train_dataset, line {self._trainer['train_dataset'].lineno}: {why}")
        scored = [one for _, one in self.given.scored]
        found: dict[Any, DataSet] = {}
        for one in (loaded.resolved for loaded in self._data):
            found.setdefault((one.path, one.config_name, one.split), one)
        return [("", one) for one in found.values() if one not in scored]

    def _say_unused(self) -> None:
        """Say what is loaded for something else, as an evaluator that is made in the script."""
        of_trainer = [*(one for _, one, _ in self.given.data), *(one for _, one in self.given.scored)]
        used = [place for one in of_trainer for place in one.places]
        for path, split in dict.fromkeys(place for one in self._data for place in one.places):
            if not any(path == place and split in (None, its_split) for place, its_split in used):
                named = f"{path} ({split})" if split else path
                why = "loaded, but neither trained on nor scored there; to score it, name it in evaluation.data"
                self.given.unread.append(f"{named}: {why}")

    def _take(self, name: str, node: ast.expr) -> None:
        value = self._known.of(node)
        if is_computed(value):
            self._unread(name, node)
        else:
            self.given.arguments[name] = value

    def _unread(self, name: str, node: ast.expr) -> None:
        self.given.unread.append(f"{name}, line {node.lineno}: computed ({ast.unparse(node)[:60]}); set it by hand")
