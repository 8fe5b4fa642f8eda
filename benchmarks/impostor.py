"""Prints an embedder's impostor curve, measured on one half of the people of lfw_dev, for zoo/registry.json.

Usage: python benchmarks/impostor.py
"""

from __future__ import annotations

import json

import numpy as np

from benchmarks.lfw import half, vectors
from facecam.people.calibrate import curve_from
from facecam.people.match import Matcher

COUNTS = (1, 2, 3, 5)


def main() -> None:
    people = {name: rows for name, rows in vectors().items() if half(name) == 0}
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
    data = f"lfw_dev, {len(names)} people (the half that benchmarks/lfw.py numbers 0), stills (vision.still)"
    print(json.dumps({"impostor": curve_from(scores, data).to_json()}))


if __name__ == "__main__":
    main()
