"""Thresholds from a stated risk: how often may a stranger be called by somebody's name?

An embedder's impostor curve tells how often a stranger reaches a similarity to one enrolled person. With N
people a stranger has N chances, so the threshold for the same risk rises with the gallery; it is worked
out whenever a gallery is loaded, so that it is never stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from facecam.errors import UsageFault
from facecam.people.records import Person

#: Highest threshold that is ever chosen: above it not even the same photo would do.
CEILING: Final = 0.995
#: Rates are tabulated from one in ten to one in a hundred thousand; below, the curve goes on as its last
#: decades do.
RATES: Final = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)


@dataclass(frozen=True, slots=True)
class ImpostorCurve:
    """False match rate of one stranger against one person, as a function of similarity.

    A person with more samples is easier to resemble, so there is a curve for each of several counts.

    Attributes:
        rates: descending; similarity: number of samples -> similarity reached at those rates (ascending).
        data: what it was measured on.
    """

    rates: tuple[float, ...]
    similarity: Mapping[int, tuple[float, ...]]
    data: str

    def __post_init__(self) -> None:
        if list(self.rates) != sorted(self.rates, reverse=True) or not all(0 < r <= 1 for r in self.rates):
            raise ValueError("rates descend and lie between 0 and 1")
        if not self.similarity:
            raise ValueError("an impostor curve has at least one row")
        for count, row in self.similarity.items():
            if count < 1 or len(row) != len(self.rates) or not all(a < b for a, b in pairwise(row)):  # nor NaN
                raise ValueError(f"the row for {count} samples does not ascend with falling rates")
        if len(self.rates) < 3:
            raise ValueError(f"an impostor curve has three rates at least, for its slope; there are {len(self.rates)}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImpostorCurve:
        """Read what `to_json` gave."""
        rows = {int(count): tuple(float(v) for v in row) for count, row in data["similarity"].items()}
        return cls(tuple(float(r) for r in data["rates"]), rows, str(data["data"]))

    def to_json(self) -> dict[str, Any]:
        rows = {str(count): [round(v, 4) for v in row] for count, row in self.similarity.items()}
        return {"data": self.data, "rates": list(self.rates), "similarity": rows}

    @property
    def spread(self) -> float:
        """From the similarity that one stranger in ten reaches to that of one in a thousand; 0 if it tells neither."""
        row = self.similarity[min(self.similarity)]
        tenth, thousandth = np.interp([1.0, 3.0], -np.log10(self.rates), row)
        return float(thousandth - tenth)

    def rate(self, similarity: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
        """False match rates at similarities against a person with so many samples; strictly falling."""
        row = np.array(self.similarity[max((k for k in self.similarity if k <= samples), default=min(self.similarity))])
        logs = np.log10(self.rates)
        inside = np.interp(similarity, row, logs)
        # Beyond the measured tail the curve goes on with the slope of its last decade.
        slope = (logs[-1] - logs[-3]) / (row[-1] - row[-3])
        beyond = logs[-1] + slope * (similarity - row[-1])
        first = (logs[1] - logs[0]) / (row[1] - row[0])
        before = np.minimum(0.0, logs[0] + first * (similarity - row[0]))
        result = np.where(similarity > row[-1], beyond, np.where(similarity < row[0], before, inside))
        return np.asarray(10.0**result)


#: Key of a calibration in the gallery's settings, with the vector space behind it.
_KEY: Final = "calibration"
#: The user's data may loosen the threshold by this much at most; it may tighten it as far as it says.
LOOSEST: Final = -0.01


class _Keeper(Protocol):
    """What is used of a gallery."""

    def people(self) -> Sequence[Person]: ...

    def setting(self, key: str) -> Any: ...

    def set_setting(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the user's own strangers and people said.

    Attributes:
        shift: added to the threshold that the built-in curve gives.
        offsets: added on top for people whom strangers resemble more than usual, by name.
        strangers, people: how many of each it was measured with.
    """

    shift: float
    offsets: Mapping[str, float]
    strangers: int
    people: int

    @classmethod
    def of(cls, gallery: _Keeper, space: str) -> Calibration | None:
        """The one stored with the gallery for a vector space, if any; its offsets are those of people still there."""
        data = gallery.setting(f"{_KEY}:{space}")
        if not isinstance(data, dict):
            return None
        kept = data["offsets"]
        offsets = {p.name: float(kept[_mark(p)]) for p in gallery.people() if _mark(p) in kept} if kept else {}
        return cls(float(data["shift"]), offsets, int(data["strangers"]), int(data["people"]))

    @staticmethod
    def forget(gallery: _Keeper, space: str) -> None:
        """Drop the one stored; the built-in curve counts alone again."""
        gallery.set_setting(f"{_KEY}:{space}", None)

    def store(self, gallery: _Keeper, space: str) -> None:
        """Keep it with the gallery. Names are not kept: people get other ones, and those removed must leave none."""
        offsets = {_mark(p): self.offsets[p.name] for p in gallery.people() if p.name in self.offsets}
        data = {"shift": self.shift, "offsets": offsets, "strangers": self.strangers, "people": self.people}
        gallery.set_setting(f"{_KEY}:{space}", data)


def _mark(person: Person) -> str:
    """Says which person it is, whatever the name; the number alone may be given again after a removal."""
    return f"{person.id} {person.created}"


def calibrate(
    curve: ImpostorCurve, names: Sequence[str], samples: Sequence[int], scores: NDArray[np.float32]
) -> Calibration:
    """Measure how the user's strangers compare with those of the built-in curve.

    Args:
        names, samples: the enrolled people and how many samples each has.
        scores: float32, strangers x people; NaN where a "stranger" is that very person.

    Raises:
        UsageFault: too few comparisons to learn from.
    """
    flat = scores[np.isfinite(scores)]
    if len(flat) < 200:
        raise UsageFault(
            f"only {len(flat)} comparisons of strangers with people; at least 200 are needed: "
            "give --unknown DIR with more photos of people who are not enrolled"
        )
    usual = float(np.mean([_above(curve, int(k)) for k in samples]))
    quantile = max(0.01, 10 / len(flat))
    measured = float(np.quantile(flat, 1 - quantile))
    expected = float(np.mean([_similarity_at(curve, quantile, int(k)) for k in samples]))
    shift = measured - expected
    if shift < 0:  # it is loosened only as far as it may be, had chance been as kind as it is once in forty times
        tail = quantile * len(flat)
        shift = min(0.0, float(np.quantile(flat, 1 - (tail - 2 * np.sqrt(tail)) / len(flat))) - expected)
    offsets = {}
    for name, column, count in zip(names, scores.T, samples):
        mine = column[np.isfinite(column)]
        if len(mine) >= 50:
            # A person's own strangers against those of everybody, less what more samples explain.
            excess = float(np.quantile(mine, 0.9) - np.quantile(flat, 0.9)) - (_above(curve, int(count)) - usual)
            if excess > 0.005:
                offsets[name] = round(min(excess, 0.03), 4)
    strangers = int(np.isfinite(scores).any(axis=1).sum())
    return Calibration(round(max(LOOSEST, shift), 4), offsets, strangers, len(names))


def _similarity_at(curve: ImpostorCurve, rate: float, samples: int) -> float:
    grid = np.arange(0.5, CEILING, 0.0005)
    return float(grid[int(np.argmax(curve.rate(grid, samples) <= rate))])


def _above(curve: ImpostorCurve, samples: int) -> float:
    """How much higher strangers reach against so many samples than against one."""
    return _similarity_at(curve, 0.01, samples) - _similarity_at(curve, 0.01, 1)


def expected_false_names(
    curve: ImpostorCurve, samples: Sequence[int], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected false names for one stranger, for each threshold.

    Args:
        samples: number of samples of each enrolled person.
    """
    total = np.zeros_like(thresholds)
    for count, people in Counter(samples).items():
        total += people * curve.rate(thresholds, count)
    return total


def threshold_for(curve: ImpostorCurve, samples: Sequence[int], risk: float) -> float:
    """The lowest threshold at which a stranger gets a false name with at most the stated risk.

    Args:
        samples: number of samples of each enrolled person.
        risk: false names per stranger, above 0, below 1.

    Returns:
        cosine similarity; it rises with the number of people and with a smaller risk.
    """
    if not 0 < risk < 1:
        raise UsageFault(f"--max-false-names takes a share between 0 and 1, such as 0.001, not {risk}")
    if not len(samples):
        return float(min(row[0] for row in curve.similarity.values()))
    grid = np.arange(0.5, CEILING + 1e-9, 0.0001)
    enough = np.nonzero(expected_false_names(curve, samples, grid) <= risk)[0]
    return round(float(grid[enough[0]]) if len(enough) else CEILING, 4)


def curve_from(scores: Mapping[int, NDArray[np.float32]], data: str, rates: Sequence[float] = RATES) -> ImpostorCurve:
    """A curve from impostor similarities, by the enrolled person's number of samples.

    Quantiles that hang on fewer than ten scores are not taken from the data: the row goes on in parallel to
    the row with the most scores.
    """
    rows: dict[int, list[float]] = {}
    longest = max(scores, key=lambda k: len(scores[k]))
    for count in [longest, *(k for k in scores if k != longest)]:
        ordered = np.sort(scores[count])[::-1]
        row: list[float] = []
        for i, rate in enumerate(rates):
            at = rate * len(ordered)
            if at >= 10:
                row.append(float(ordered[int(at)]))
            elif count != longest and row:
                row.append(row[-1] + rows[longest][i] - rows[longest][i - 1])
            elif len(row) >= 3:
                step = (row[-1] - row[-3]) / (np.log10(rates[i - 3]) - np.log10(rates[i - 1]))
                row.append(row[-1] + step * (np.log10(rates[i - 1]) - np.log10(rate)))
            else:
                raise ValueError(f"{len(ordered)} scores are too few for a curve; give more pictures of strangers")
        for i in range(1, len(row)):
            row[i] = max(row[i], row[i - 1] + 1e-4)
        rows[count] = row
    return ImpostorCurve(tuple(rates), {k: tuple(rows[k]) for k in sorted(rows)}, data)
