"""An embedder's impostor curve: how near strangers come to a person, so that facecam can keep --max-false-names."""

from __future__ import annotations

from typing import Any

import numpy as np

from facecam.people.calibrate import curve_from
from facecam.people.match import Matcher

#: Numbers of enrolled pictures that have a row of their own, as in benchmarks/impostor.py.
COUNTS = (1, 2, 3, 5)
#: Fewest comparisons that make a curve: its rates down to 1 % then hang on ten of them.
LEAST = 1000


def measure(vectors: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, Any] | None:
    """Compare every person with one picture of every other, as the gallery's matcher does.

    Args:
        vectors: float32 N x D, norm 1, averaged with their mirror images' as enrolment does. labels: N, whose.

    Returns:
        what people.calibrate.ImpostorCurve reads, or None where the people are too few.
    """
    people = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    strangers = vectors[[rows[0] for rows in people]]
    rng = np.random.default_rng(seed)
    scores: dict[int, np.ndarray] = {}
    for count in COUNTS:
        parts = []
        for number, rows in enumerate(people):
            if len(rows) >= count:
                enrolled = vectors[rows[rng.permutation(len(rows))[:count]]]
                matcher = Matcher(("somebody",), np.zeros(count, np.int32), enrolled, threshold=1.0)
                parts.append(np.delete(matcher.similarities(strangers)[:, 0], number))
        if parts and sum(map(len, parts)) >= LEAST:
            scores[count] = np.concatenate(parts)
    if not scores:
        return None
    how = f"{len(people)} people whom nothing was trained on, crops averaged with their mirror images"
    return curve_from(scores, how).to_json()
