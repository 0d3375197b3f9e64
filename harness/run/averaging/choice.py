"""Which checkpoints of a run `--average` names."""

from __future__ import annotations

from dataclasses import dataclass

from harness.run.folder import RunFolder

OPTION = "--average"


@dataclass(frozen=True, slots=True)
class Average:
    """`last:N`, the mean of the newest N checkpoints; or `greedy`, of those that raise a development score."""

    last: int | None  # None: greedy

    @classmethod
    def parsed(cls, given: str) -> Average:
        """The option's text.

        Raises:
            ValueError: it is none of the two.
        """
        kind, _, number = given.partition(":")
        if given == "greedy":
            return cls(None)
        if kind == "last" and number.isdecimal() and int(number) >= 2:
            return cls(int(number))
        raise ValueError(f"{OPTION}: got {given}, expected last:N with N of at least 2, or greedy")

    def __str__(self) -> str:
        return "greedy" if self.last is None else f"last:{self.last}"

    def steps(self, folder: RunFolder) -> list[int]:
        """The steps of the checkpoints to average, or to choose from, ascending; each is whole.

        Raises:
            ValueError: the run has too few, or keeps averages already; or one is damaged.
        """
        ema = folder.config.training.ema
        if ema is not None:
            raise ValueError(
                f"{OPTION}: got {self} with training.ema {ema:g}, whose checkpoints hold averages already, expected a "
                "run without; leave the option out, which exports the run's own average"
            )
        steps = sorted(folder.checkpoints.steps())
        needed = self.last or 2
        if len(steps) < needed:
            raise ValueError(
                f"{OPTION}: got {self}, but {folder.path} keeps {len(steps)} checkpoints "
                f"({', '.join(map(str, steps)) or 'none'}), expected at least {needed}; train with checkpoint.keep: "
                f"{needed} or more"
            )
        chosen = steps[-self.last :] if self.last is not None else steps
        for step in chosen:
            folder.checkpoints.at(step, OPTION)
        return chosen
