"""How many small faces does a coarser level of the pyramid hint at, and at how many places, for a threshold?

Usage: python -m benchmarks.hints [lfw_dev] [cats_dogs] [--sheets 60]

Photos of people (two of five) and of cats and dogs are put side by side on sheets of 1280 x 720, so that the faces are
38 to 84 pixels large. The faces are those that the whole pyramid finds; one counts as found where it shows at a
level that is searched whole, or where a guided level shows it and the level that guides it hints so near that the crop
about the hint holds it. `crops` is the number of hints on a sheet, of both guided levels.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.lfw import data_folder
from facecam.engine import open_engine
from facecam.geometry import iou
from facecam.settings import Settings
from facecam.values import Image
from facecam.video.cv import import_cv2
from facecam.video.photos import read_photo
from facecam.vision import detect
from facecam.vision.detect import HINT_SIDE, MmodDetector, merge
from facecam.vision.tiles import STRIDE, WINDOW

SIZE = (1280, 720)
#: Sides of faces, pixels.
BANDS = ((38, 46), (46, 52), (52, 58), (58, 66), (66, 84))
#: Levels of the pyramid, largest first: the guided ones with what guides them.
SCHEMES = {"an octave below": {0: 2, 1: 3}, "the third": {0: 2, 1: 2}}
THRESHOLDS = (-2.65, -2.9, -3.0, -3.1, -3.2, -3.3)
#: Width of a face in the middle of a photo of lfw_dev, of 250 pixels.
FACE = 97


@dataclass(frozen=True, slots=True)
class Small:
    """A face: its size, the levels that show it, and by (guide, guided) the lowest hint whose crop holds it."""

    size: float
    shown: frozenset[int]
    hints: dict[tuple[int, int], float]


def sheet(rng: random.Random, people: list[Path], others: list[Path]) -> Image:
    """Photos side by side, BGR uint8; the faces of a sheet have about one size."""
    cv2 = import_cv2()
    made = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    cell = int(250 * rng.uniform(BANDS[0][0], BANDS[-1][1]) / FACE)
    for top in range(0, SIZE[1] - cell // 2, cell):
        for left in range(0, SIZE[0] - cell // 2, cell):
            photo = read_photo(rng.choice(people if rng.random() < 0.4 else others))
            side = min(photo.shape[:2])
            part = made[top : top + cell, left : left + cell]
            part[:] = cv2.resize(photo[:side, :side], (cell, cell), interpolation=cv2.INTER_AREA)[
                : part.shape[0], : part.shape[1]
            ]
    return made


def looked_at(detector: MmodDetector, image: Image) -> tuple[list[Small], dict[int, list[float]]]:
    """The small faces of a sheet, and the hints of each guiding level."""
    scales = detector.levels(*SIZE, 40)[:4]
    maps = dict(enumerate(detector._searched(image, scales)))
    depths: dict[int, list[tuple[float, float, float]]] = {}
    for guide in (2, 3):
        depths[guide] = []
        for left, top, score in maps[guide][1]:
            for x, y in detect._hints(left, top, score, scales[guide]):
                row = round((y * scales[guide] - 0.5 - top - detect.FIRST) / STRIDE)
                column = round((x * scales[guide] - 0.5 - left - detect.FIRST) / STRIDE)
                depths[guide].append((x, y, float(score[row, column])))
    small = []
    for face in merge([face for _, _, found in maps.values() for face in found]):
        if not BANDS[0][0] <= face.size < BANDS[-1][1]:
            continue
        shown = frozenset(i for i, level in maps.items() if any(iou(f.box, face.box) > 0.35 for f in level[2]))
        hints = {}
        for guide, guided in {pair[::-1] for scheme in SCHEMES.values() for pair in scheme.items()}:
            reach = (HINT_SIDE - WINDOW) / 2 / scales[guided]
            near = [d for x, y, d in depths[guide] if max(abs(x - face.centre[0]), abs(y - face.centre[1])) <= reach]
            hints[guide, guided] = min(near, default=np.inf)
        small.append(Small(face.size, shown, hints))
    return small, {guide: [d for _, _, d in all_] for guide, all_ in depths.items()}


def is_found(face: Small, scheme: Mapping[int, int], threshold: float) -> bool:
    """Whether a search finds a face; scheme: guided level -> what guides it."""
    if face.shown - scheme.keys():
        return True
    return any(face.hints[guide, i] < threshold for i, guide in scheme.items() if i in face.shown)


def main() -> None:
    parser = argparse.ArgumentParser(description="Small faces that a coarser level hints at, by threshold.")
    parser.add_argument("people", type=Path, nargs="?", default=data_folder() / "lfw_dev")
    parser.add_argument("others", type=Path, nargs="?", default=data_folder() / "cats_dogs")
    parser.add_argument("--sheets", type=int, default=60, help="sheets of photos (default: 60)")
    arguments = parser.parse_args()
    people, others = (sorted(folder.rglob("*.jpg")) for folder in (arguments.people, arguments.others))
    detector = open_engine(Settings(device="cpu")).video_detector
    if not isinstance(detector, MmodDetector):
        raise SystemExit("the pack in use has no detector with hints; see facecam models")
    detect.HINT = max(THRESHOLDS)  # type: ignore[misc]  # every hint is wanted, with its depth
    rng, faces, hints = random.Random(0), list[Small](), {2: list[float](), 3: list[float]()}
    for _ in range(arguments.sheets):
        found, depths = looked_at(detector, sheet(rng, people, others))
        faces += found
        for guide, values in depths.items():
            hints[guide] += values
    print(f"{len(faces)} faces on {arguments.sheets} sheets")
    print()
    print("| guided by | below | found | " + " | ".join(f"{a}-{b} px" for a, b in BANDS) + " | crops a sheet |")
    print("|---" * (len(BANDS) + 4) + "|")
    for name, scheme in SCHEMES.items():
        for threshold in THRESHOLDS:
            shares = []
            for low, high in ((0, 1e9), *BANDS):
                some = [face for face in faces if low <= face.size < high]
                shares.append(f"{sum(is_found(face, scheme, threshold) for face in some) / max(1, len(some)):.1%}")
            crops = sum(sum(d < threshold for d in hints[guide]) for guide in scheme.values()) / arguments.sheets
            print(f"| {name} | {threshold} | " + " | ".join(shares) + f" | {crops:.0f} |")


if __name__ == "__main__":
    main()
