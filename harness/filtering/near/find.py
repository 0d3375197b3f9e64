"""Finds the near duplicates: all ranks compute signatures and compare pairs, rank 0 decides which pairs stay.

Two pairs are near duplicates if both their queries and their positives are similar. One similar side is not enough,
because different questions may have equal answers, and one question may have several answers. Sketches only choose
which pairs are compared (`candidates.py`); the comparison is exact, so no pair is dropped by an estimate's error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from harness import comm
from harness.data.distinct import distinct
from harness.files import replace_file
from harness.filtering.config import FilterConfig
from harness.filtering.near.candidates import Candidates, band_candidates
from harness.filtering.near.compare import near, repeated, screened
from harness.filtering.near.signatures import Bands, ReadTexts, SignatureFiles
from harness.rank0 import by_each, by_main, wait_until_visible
from harness.settings import checked_json as json

Progress = Callable[[str, int, int], None]  # called with (stage, number done, total number)


@dataclass(frozen=True, slots=True)
class Compared:
    """How the near duplicates were found, for the report.

    comparisons: pairs of pairs that agree in a band; their signatures were compared. exact: those whose texts were
    compared, too. missed_at_threshold: the share of the near duplicates exactly at the threshold that agree in no band.
    large_buckets: those in which not all pairs were compared with each other. in_large_buckets: the pairs in them.
    """

    comparisons: int
    exact: int
    missed_at_threshold: float
    large_buckets: int
    in_large_buckets: int

    def warning(self) -> str | None:
        """What a user must know: near duplicates may have been missed because buckets were too large."""
        if not self.large_buckets:
            return None
        return (
            f"near duplicates: {self.in_large_buckets:,} pairs share most of their text with many others "
            f"(a template?); {self.large_buckets:,} groups of such pairs were too large to compare each "
            "with each, so that near duplicates may be left among them"
        )


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Finds near duplicates among `num_pairs` pairs. Its files stay in `folder`, so that a killed start is continued.

    read: returns the `pair_text` of the pairs with the given numbers. Disk: 4 bytes per hash of a pair (1 KiB with the
    default settings), 8 per band, and 8 per comparison in each band that finds it. Memory of a rank: about 60 bytes per
    pair, and up to 75 per comparison while those of all bands are joined.
    """

    folder: Path
    num_pairs: int
    config: FilterConfig
    read: ReadTexts
    progress: Progress

    def find(self) -> tuple[np.ndarray, Compared]:
        """For each pair, whether it is a near duplicate of an earlier kept pair, bool [E]; and how they were found.

        Every rank must call this and gets the result.
        """
        if not by_main(self._decided().is_file):
            by_main(lambda: self.folder.mkdir(parents=True, exist_ok=True))
            by_each(lambda: self._files().write_share(self.read, partial(self._say, "near duplicates")))
            by_each(self._write_candidates)
            counts = by_each(self._write_near)
            by_main(lambda: self._decide(counts))
        compared = by_main(lambda: Compared(**json.loads(self._decided().read_text())))
        return np.load(_seen(self.folder / "repeated.npy")), compared

    def _decided(self) -> Path:
        return self.folder / "decided.json"

    def _files(self) -> SignatureFiles:
        return SignatureFiles(self.folder, self.num_pairs, self.config)

    def _say(self, stage: str, done: int) -> None:
        self.progress(stage, done, self.num_pairs)

    def _bands(self) -> list[tuple[int, Path]]:
        return [(band, self.folder / f"candidates-{band:04d}.npz") for band in range(Bands.of(self.config).count)]

    def _write_candidates(self) -> None:
        """Write the candidates of every W-th band (W ranks)."""
        for band, place in self._bands()[comm.rank() :: comm.world_size()]:
            if not place.exists():
                found = asdict(band_candidates(self._files(), band))
                replace_file(place, partial(np.savez, **found))

    def _candidates(self) -> Candidates:
        """The candidates of all bands together."""
        edge_N, waiting = np.empty(0, dtype=np.int64), list[np.ndarray]()
        large_buckets, in_large_E = 0, np.zeros(self.num_pairs, dtype=bool)
        for _, place in self._bands():
            with np.load(_seen(place)) as band:
                waiting.append(band["edge_N"])
                large_buckets += int(band["large_buckets"])
                in_large_E |= band["in_large_E"]
            if sum(map(len, waiting)) > len(edge_N):  # copies agree in every band, and must not stay in memory as often
                edge_N, waiting = distinct(np.concatenate([edge_N, *waiting])), []
        return Candidates(distinct(np.concatenate([edge_N, *waiting])), large_buckets, in_large_E)

    def _write_near(self) -> tuple[int, ...]:
        """Compare this rank's share of the candidates; returns numbers for `_decide`, from each rank."""
        candidates, files = self._candidates(), self._files()
        bounds = np.linspace(0, len(candidates.edge_N), comm.world_size() + 1).astype(np.int64)
        share_N = candidates.edge_N[bounds[comm.rank()] : bounds[comm.rank() + 1]]
        exact_N = screened(files, share_N)
        self._say("near duplicates", self.num_pairs)
        replace_file(self._near_file(comm.rank()), partial(np.save, arr=near(self.read, exact_N, files)))
        return len(share_N), len(exact_N), candidates.large_buckets, int(candidates.in_large_E.sum())

    def _near_file(self, rank: int) -> Path:
        return self.folder / f"near-{rank:06d}.npy"

    def _decide(self, counts: Sequence[tuple[int, ...]]) -> None:
        """Write what `find` returns, from what each rank has found."""
        near_N = np.concatenate([np.load(_seen(self._near_file(rank))) for rank in range(len(counts))])
        replace_file(self.folder / "repeated.npy", partial(np.save, arr=repeated(near_N, self.num_pairs)))
        missed = Bands.of(self.config).missed(self.config.near_threshold)
        comparisons, exact = sum(count[0] for count in counts), sum(count[1] for count in counts)
        compared = Compared(comparisons, exact, round(missed, 6), *counts[0][2:])
        replace_file(self._decided(), json.dumps(asdict(compared)))


def _seen(place: Path) -> Path:
    """The place of a file that another rank has written, as soon as this rank sees it."""
    wait_until_visible(place)
    return place
