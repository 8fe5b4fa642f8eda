"""Prints an embedder's impostor curve, measured on people of lfw_dev, for zoo/registry.json.

Usage: python -m benchmarks.impostor [--everybody]

People: one half of them, so that benchmarks/promise.py has the other; with --everybody all whom the embedder in use was
not trained on.
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


def curve(people: Mapping[str, np.ndarray], what: str) -> ImpostorCurve:
    """Everybody's enrolment against one photo of everybody else.

    Args:
        people: name -> float32, photos x dim. what: said of them in the curve.
    """
    names = sorted(people)
    strangers = np.stack([people[name][0] for name in names])  # one photo each, so that people weigh alike
    rng = np.random.default_rng(0)
    scores: dict[int, np.ndarray] = {}
    for count in COUNTS:
        parts = []
        for index, name in enumerate(names):
            rows = people[name]
            if len(rows) < count:
                continue
            rows = rows[rng.permutation(len(rows))[:count]]
            matcher = Matcher((name,), np.zeros(count, np.int32), rows, threshold=1.0)
            parts.append(np.delete(matcher.similarities(strangers)[:, 0], index))
        scores[count] = np.concatenate(parts)
        print(f"{count} samples: {len(parts)} people, {len(scores[count])} comparisons")
    return curve_from(scores, f"lfw_dev, {len(names)} people ({what}), stills (vision.still)")


def main() -> None:
    everybody = "--everybody" in sys.argv[1:]
    people = {name: rows for name, rows in vectors().items() if everybody or half(name) == 0}
    what = "all it was not trained on" if everybody else "the half that benchmarks/lfw.py numbers 0"
    print(json.dumps({"impostor": curve(people, what).to_json()}))


if __name__ == "__main__":
    main()
