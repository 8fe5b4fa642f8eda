"""How many of a person's own photos, and of strangers, are further from a gallery than a denial takes?

Usage: python -m benchmarks.denial

People of lfw_dev with four photos or more, whom the embedder was not trained on, are enrolled with three of them, ten
to a gallery. `own` is the share of their other photos (five a draw at most) that is less similar to them than the
threshold, `strangers` that of people with fewer photos who are less similar to everybody in the gallery. The thresholds
are those of `Engine.likeness`; `evidence.STRANGER_PATIENT` rests on the second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.lfw import vectors
from facecam.engine import open_engine
from facecam.settings import Settings

DRAWS = 20
GALLERIES = 300
PEOPLE = 10
STRANGERS = 40
ENROLLED = 3


def main() -> None:
    engine = open_engine(Settings(device="cpu"))
    everybody = vectors(engine)
    known = [rows for rows in everybody.values() if len(rows) > ENROLLED]
    strangers = np.stack([rows[0] for rows in everybody.values() if len(rows) <= ENROLLED])
    rng = np.random.default_rng(0)

    def enrolled(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean of some photos, norm 1, and the rest."""
        rows = rng.permutation(rows)
        mean = rows[:ENROLLED].mean(axis=0)
        return mean / np.linalg.norm(mean), rows[ENROLLED : ENROLLED + 5]

    own = np.concatenate([rest @ mean for _ in range(DRAWS) for mean, rest in map(enrolled, known)])
    others = []
    for _ in range(GALLERIES):
        gallery = np.stack([enrolled(known[i])[0] for i in rng.choice(len(known), PEOPLE, replace=False)])
        others.append((rng.choice(strangers, STRANGERS, replace=False) @ gallery.T).max(axis=1))
    nearest = np.concatenate(others)
    print(f"pack {engine.pack}: {len(known)} people enrolled by turns, {len(strangers)} strangers")
    print()
    print("| threshold | similarity | own | strangers |")
    print("|---|---|---|---|")
    likeness = engine.likeness
    for name, value in (("doubt", likeness.doubt), ("denial", likeness.denial), ("a name", engine.threshold)):
        print(f"| {name} | {value:.4f} | {np.mean(own < value):.1%} | {np.mean(nearest < value):.1%} |")


if __name__ == "__main__":
    main()
