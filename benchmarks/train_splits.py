"""Makes the committed splits by person: python -m benchmarks.train_splits LFW_DEV/images

Five times: half of the people with several pictures to train on, a tenth to calibrate with, the rest to test on; of the
people with one picture two fifths, a tenth and the rest, who play the strangers. And once, lfw_dev-all, for the network
that is given away: nine tenths to train on, a tenth to calibrate with, nobody to test on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).parent.parent / "train" / "splits"


#: Shares of the people with several pictures and of those with one: where training and calibration end.
MEASURED = ((0.5, 0.6), (0.4, 0.5))
ALL = ((0.9, 1.0), (0.9, 1.0))


def split(
    several: list[str], single: list[str], seed: int, shares: tuple[tuple[float, float], ...] = MEASURED
) -> dict[str, list[str]]:
    """One split: part -> names, sorted."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[str]] = {"train": [], "calibrate": [], "test": []}
    for names, ends in zip((several, single), shares):
        order = [names[i] for i in rng.permutation(len(names))]
        first, second = (round(share * len(order)) for share in ends)
        for part, chosen in zip(parts, (order[:first], order[first:second], order[second:])):
            parts[part] += chosen
    return {part: sorted(names) for part, names in parts.items()}


def main() -> None:
    counts = {p.name: sum(1 for _ in p.glob("*.jpg")) for p in sorted(Path(sys.argv[1]).iterdir())}
    several = [name for name, count in counts.items() if count > 1]
    single = [name for name, count in counts.items() if count == 1]
    OUT.mkdir(exist_ok=True)
    made = {str(seed): split(several, single, seed) for seed in range(1, 6)}
    made["all"] = split(several, single, 1, ALL)
    for name, parts in made.items():
        path = OUT / f"lfw_dev-{name}.json"
        path.write_text(json.dumps(parts, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        print(path.name, {part: len(names) for part, names in parts.items()})


if __name__ == "__main__":
    main()
