"""How many small faces does a search find that looks only where the scout hints, and at how many places?

Usage: python -m benchmarks.scout [PEOPLE] [OTHERS] [--sheets 60]

Photos of people (the half of lfw_dev that the scout did not learn from; two of five) and of cats and dogs (the test
half) are put side by side on sheets of 1280 x 720, so that the faces are 38 to 120 pixels large. The faces are those
that the whole pyramid finds; one counts as found where the search finds it (IoU 0.5). `crops` is the number of places
on a sheet, `pixels` what the detector's network was given, of what the whole pyramid gives it.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from benchmarks.compose import FACE as FACE_BOX
from benchmarks.lfw import data_folder, half
from facecam.engine import open_engine
from facecam.geometry import iou
from facecam.settings import Settings
from facecam.values import Face, Image
from facecam.video.cv import import_cv2
from facecam.video.photos import read_photo
from facecam.vision import scout
from facecam.vision.detect import HINT_SIDE, SCOUTED, MmodDetector

SIZE = (1280, 720)
#: Sides of faces, pixels.
BANDS = ((38, 46), (46, 58), (58, 72), (72, 90), (90, 120))
THRESHOLDS = (-4.0, -3.5, -3.0, -2.5, -2.0, -1.0)
#: Width of a face in the middle of a photo of lfw_dev, of 250 pixels.
FACE = FACE_BOX[2]


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


def pixels_of(scales: list[float]) -> float:
    """What is looked at when levels are looked at whole."""
    return sum(SIZE[0] * SIZE[1] * scale * scale for scale in scales)


def main() -> None:
    parser = argparse.ArgumentParser(description="Small faces that the scout hints at, by threshold.")
    parser.add_argument("people", type=Path, nargs="?", default=data_folder() / "lfw_dev")
    parser.add_argument("others", type=Path, nargs="?", default=data_folder() / "cats_dogs" / "test")
    parser.add_argument("--sheets", type=int, default=60, help="sheets of photos (default: 60)")
    arguments = parser.parse_args()
    people, others = (sorted(folder.rglob("*.jpg")) for folder in (arguments.people, arguments.others))
    people = [path for path in people if half(path.parent.name) == 1]
    detector = open_engine(Settings(device="cpu")).video_detector
    if not isinstance(detector, MmodDetector) or detector.scout is None:
        raise SystemExit("the pack in use has no detector with a scout; see facecam models")
    scales = detector.levels(*SIZE, 40)
    large = [scale for scale in scales if pixels_of([scale]) > SCOUTED]
    rng = random.Random(0)
    faces: list[float] = []
    found: dict[float, list[bool]] = {threshold: [] for threshold in THRESHOLDS}
    crops = dict.fromkeys(THRESHOLDS, 0)
    for _ in range(arguments.sheets):
        image = sheet(rng, people, others)
        whole = [face for face in detector.detect(image, 40) if BANDS[0][0] <= face.size < BANDS[-1][1]]
        faces += [face.size for face in whole]
        for threshold in THRESHOLDS:
            scout.HINT = threshold  # type: ignore[misc]
            crops[threshold] += sum(map(len, detector.scout.hints(image, large).values()))
            near: list[Face] = detector.detect_levels(image, scales)
            found[threshold] += [any(iou(a.box, b.box) >= 0.5 for b in near) for a in whole]
    print(f"{len(faces)} faces on {arguments.sheets} sheets")
    print()
    print("| hints from | found | " + " | ".join(f"{a}-{b} px" for a, b in BANDS) + " | crops a sheet | pixels |")
    print("|---" * (len(BANDS) + 4) + "|")
    for threshold in THRESHOLDS:
        shares = []
        for low, high in ((0, 1e9), *BANDS):
            some = [hit for size, hit in zip(faces, found[threshold]) if low <= size < high]
            shares.append(f"{sum(some) / max(1, len(some)):.1%}")
        count = crops[threshold] / arguments.sheets
        looked = count * HINT_SIDE**2 + pixels_of([scale for scale in scales if scale not in large])
        print(f"| {threshold} | " + " | ".join(shares) + f" | {count:.0f} | {looked / pixels_of(scales):.1%} |")


if __name__ == "__main__":
    main()
