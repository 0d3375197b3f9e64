"""What the model card and the command say of averaged weights."""

from __future__ import annotations

from dataclasses import dataclass

from harness.evaluation.kinds.table import main_metric_of
from harness.evaluation.runner import Results
from harness.export.markdown import plain, table
from harness.run.averaging.choice import Average


@dataclass(frozen=True, slots=True)
class AveragedWeights:
    """Which weights were averaged, and the scores of one checkpoint and of the mean.

    single: the step of that checkpoint: the newest, with `greedy` the best. before, after: None: not scored.
    """

    average: Average
    steps: tuple[int, ...]
    single: int
    before: Results | None
    after: Results | None

    @property
    def words(self) -> str:
        """What was averaged."""
        steps = ", ".join(map(str, sorted(self.steps)))
        if len(self.steps) == 1:
            return f"step {steps} alone, because no other checkpoint raised the score ({self.average})"
        return f"the mean of the float32 weights after steps {steps} ({self.average})"

    def section(self) -> str:
        """The section of the model card."""
        source = "Model soups, arXiv 2203.05482"
        text = f"These weights are {self.words}; {source}.\n"
        if self.before is None or self.after is None:
            return f"## Averaged weights\n\n{text}"
        which = "with the highest mean of these scores" if self.average.last is None else "the newest"
        text += f"\nThe main scores of the checkpoint {which} (step {self.single}), and of the average"
        text += ", which were chosen by them.\n" if self.average.last is None else ".\n"
        rows = []
        for name, metrics in self.after.items():
            main = main_metric_of(metrics)
            values = (self.before[name][main], metrics[main])
            rows.append((plain(name), plain(main), *("" if value != value else f"{value:.4f}" for value in values)))
        return f"## Averaged weights\n\n{text}\n{table(('data', 'metric', f'step {self.single}', 'average'), rows)}"
