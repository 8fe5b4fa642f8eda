"""Does the promise hold? Strangers named, for galleries of several sizes, at the stated risk and at a fixed threshold.

Usage: python -m benchmarks.promise [--crossed]
People: the half of lfw_dev that the impostor curve was not measured on. With --crossed each half is tested with a
cautious curve of the other: for an embedder whose own curve is of everybody it was not trained on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.impostor import curve
from benchmarks.lfw import half, vectors
from facecam.engine import open_engine
from facecam.people.calibrate import threshold_for
from facecam.people.match import Matcher
from facecam.settings import Settings

RISK, DRAWS, SIZES = 0.001, 20, (10, 50, 200)


def test(people: dict[str, np.ndarray], threshold_of: Callable[[Sequence[int]], float], fixed: float) -> None:
    """Print a row for each size of gallery.

    Args:
        people: name -> float32, photos x dim. threshold_of: from the number of samples of each person.
        fixed: another threshold, beside it.
    """
    names = sorted(people)
    print(f"{len(names)} people, {sum(map(len, people.values()))} photos; {DRAWS} draws each; risk {RISK} a stranger")
    print("people  threshold  false names a stranger  of the promise  | fixed threshold  false names  of the promise")
    for size in SIZES:
        chosen, rates, others = [], [], []
        for draw in range(DRAWS):
            rng = np.random.default_rng(1000 * size + draw)
            known = [names[i] for i in rng.permutation(len(names))[:size]]
            rows = [people[name][: min(3, len(people[name]))] for name in known]
            owner = np.repeat(np.arange(size), [len(r) for r in rows]).astype(np.int32)
            threshold = threshold_of([len(r) for r in rows])
            strangers = np.concatenate([people[name] for name in names if name not in set(known)])
            for limit, into in ((threshold, rates), (fixed, others)):
                matcher = Matcher(known, owner, np.concatenate(rows), threshold=limit)
                into.append(np.mean([m.name is not None for m in matcher.match(strangers)]))
            chosen.append(threshold)
        mean, flat = float(np.mean(rates)), float(np.mean(others))
        print(
            f"{size:6d}  {np.mean(chosen):9.4f}  {mean:.5f} +- {np.std(rates):.5f}      {mean / RISK:14.2f}"
            f"  | {fixed:15.3f}  {flat:11.5f}  {flat / RISK:14.2f}"
        )


def main() -> None:
    engine = open_engine(Settings(device="cpu", max_false_names=RISK))
    halves = [{name: rows for name, rows in vectors(engine).items() if half(name) == h} for h in (0, 1)]
    if "--crossed" not in sys.argv[1:]:
        test(halves[1], engine.threshold_for, engine.threshold)
        return
    for other, people in zip(reversed(halves), halves):
        measured = curve(other, "the other half", cautious=True)
        test(people, lambda samples: threshold_for(measured, samples, RISK), engine.threshold)  # noqa: B023


if __name__ == "__main__":
    main()
