"""Prints an embedder's impostor curve, measured on people of lfw_dev, for zoo/registry.json.

Usage: python -m benchmarks.impostor [--everybody]

People: one half of them, so that benchmarks/promise.py has the other; with --everybody all whom the embedder in use was
not trained on. Nobody is left to test such a curve, so it is a cautious one: at each rate the similarity that nine of
ten bootstraps over the people stay below. Single look-alikes rule the rare rates, and another crowd has others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import numpy as np

from benchmarks.lfw import half, vectors
from facecam.people.calibrate import ImpostorCurve, curve_from
from facecam.people.match import Matcher

COUNTS = (1, 2, 3, 5)
#: Of the cautious curve: how many bootstraps, and the share of them that it lies above.
BOOTSTRAPS, ABOVE = 40, 0.9


def curve(people: Mapping[str, np.ndarray], what: str, *, cautious: bool = False) -> ImpostorCurve:
    """Everybody's enrolment against one photo of everybody else.

    Args:
        people: name -> float32, photos x dim. what: said of them in the curve.
        cautious: above nine of ten bootstraps over the people, instead of through all of them.
    """
    names = sorted(people)
    strangers = np.stack([people[name][0] for name in names])  # one photo each, so that people weigh alike
    rng = np.random.default_rng(0)
    scores: dict[int, np.ndarray] = {}  # enrolled x strangers, NaN where they are the same
    owners: dict[int, np.ndarray] = {}
    for count in COUNTS:
        owners[count] = np.array([i for i, name in enumerate(names) if len(people[name]) >= count])
        scores[count] = np.empty((len(owners[count]), len(names)), np.float32)
        for row, owner in zip(scores[count], owners[count]):
            rows = people[names[owner]]
            rows = rows[rng.permutation(len(rows))[:count]]
            matcher = Matcher((names[owner],), np.zeros(count, np.int32), rows, threshold=1.0)
            row[:] = matcher.similarities(strangers)[:, 0]
            row[owner] = np.nan
        print(f"{count} samples: {len(owners[count])} people, {len(owners[count]) * (len(names) - 1)} comparisons")
    said = f"lfw_dev, {len(names)} people ({what}), stills (vision.still)"
    if not cautious:
        return curve_from({count: table[np.isfinite(table)] for count, table in scores.items()}, said)
    drawn = []
    for _ in range(BOOTSTRAPS):
        times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
        columns = np.repeat(np.arange(len(names)), times)
        tables = {k: t[np.ix_(np.repeat(np.arange(len(t)), times[owners[k]]), columns)] for k, t in scores.items()}
        drawn.append(curve_from({k: t[np.isfinite(t)] for k, t in tables.items()}, said))
    above = {k: np.quantile([c.similarity[k] for c in drawn], ABOVE, axis=0) for k in COUNTS}
    said += f", above {ABOVE:.0%} of {BOOTSTRAPS} bootstraps over people"
    return ImpostorCurve(drawn[0].rates, {k: tuple(map(float, row)) for k, row in above.items()}, said)


def main() -> None:
    everybody = "--everybody" in sys.argv[1:]
    people = {name: rows for name, rows in vectors().items() if everybody or half(name) == 0}
    what = "all it was not trained on" if everybody else "the half that benchmarks/lfw.py numbers 0"
    print(json.dumps({"impostor": curve(people, what, cautious=everybody).to_json()}))


if __name__ == "__main__":
    main()
