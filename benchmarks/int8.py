"""What 8-bit integers change: vectors, pairs told apart, faces found, time.

Usage: python -m benchmarks.int8 [--photos N]

On photos of lfw_dev: the faces that float32 finds (every photo that pairs.txt names, or N of them), one crop each,
embedded in both; accuracy by the protocol of LFW, threshold from nine folds, and int8 probes against a float32 gallery,
as `facecam label` compares them. Times are of one thread, the least of some runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.lfw import data_folder
from facecam.engine import open_engine
from facecam.evaluate.metrics import cross_validate
from facecam.evaluate.pairs import picture_of, read_pairs
from facecam.geometry import iou
from facecam.settings import Settings
from facecam.video.photos import read_photo
from facecam.vision.align import align
from facecam.vision.tensor import feed


def least(work: Callable[[], Any], runs: int = 12) -> float:
    """Milliseconds of processor time."""
    work()
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="What 8-bit integers change.")
    parser.add_argument("--photos", type=int, default=0, help="so many photos only; no pairs then")
    arguments = parser.parse_args()
    whole = open_engine(Settings(device="cpu", threads=1, precision="fp32"))
    rounded = open_engine(Settings(device="cpu", threads=1, precision="int8"))
    pairs = read_pairs(data_folder() / "lfw_dev" / "pairs.txt")
    named = sorted({side for pair in pairs for side in (pair.first, pair.second)})
    if arguments.photos:
        named = named[:: max(1, len(named) // arguments.photos)]
    rows: dict[Any, int] = {}
    crops: list[Any] = []
    vectors: dict[str, list[Any]] = {"fp32": [], "int8": []}
    found = both = 0
    for person in named:
        image = read_photo(picture_of(data_folder() / "lfw_dev" / "images", *person))
        faces = whole.video_detector.detect(image, 40)
        if len(rows) % 10 == 0:  # a tenth is enough to compare the detectors
            others = rounded.video_detector.detect(image, 40)
            found += max(len(faces), len(others))
            both += sum(any(iou(a.box, b.box) > 0.5 for b in others) for a in faces)
        if not faces:
            continue
        main_face = min(faces, key=lambda f: abs(f.centre[0] - 125) + abs(f.centre[1] - 125))
        crops.append(align(image, whole.landmarker.locate(image, [main_face])[0], whole.embedder.template))
        rows[person] = len(rows)
        if len(crops) == 32 or person == named[-1]:
            vectors["fp32"].append(whole.video_embedder.embed(crops))
            vectors["int8"].append(rounded.video_embedder.embed(crops))
            last, crops = crops, []
    if crops:
        vectors["fp32"].append(whole.video_embedder.embed(crops))
        vectors["int8"].append(rounded.video_embedder.embed(crops))
    a, b = (np.concatenate(vectors[key]) for key in ("fp32", "int8"))
    cosine = (a * b).sum(axis=1)
    print(f"{len(a)} faces: cosine of int8 to fp32 {cosine.mean():.5f}, least {cosine.min():.5f}")
    print(f"faces found by either {found}, by both {both}")
    if not arguments.photos:
        use = [p for p in pairs if p.first in rows and p.second in rows]
        one = np.array([rows[p.first] for p in use])
        two = np.array([rows[p.second] for p in use])
        truth = np.array([p.first[0] == p.second[0] for p in use])
        fold = np.array([p.fold for p in use])
        for name, left, right in (("fp32", a, a), ("int8", b, b), ("int8 against fp32", b, a)):
            folds = cross_validate((left[one] * right[two]).sum(axis=1), truth, fold, np.ones(len(use), bool))
            print(f"{name}: accuracy {np.mean(folds.accuracy):.4f} over {len(use)} pairs")
    picture = np.zeros((360, 640, 3), np.uint8)
    jobs: dict[str, Callable[[Any], Any]] = {
        "detect, one pass at 640 x 360": lambda e: feed(e.video_detector.model, [picture]),
        "embed, one face": lambda e: e.video_embedder.embed(last[:1]),
        "embed, eight faces": lambda e: e.video_embedder.embed(last[:8]),
    }
    print("| what | fp32 | int8 | ratio |\n|---|---|---|---|")
    for what, job in jobs.items():
        times = [least(lambda engine=engine, job=job: job(engine)) for engine in (whole, rounded)]  # type: ignore[misc]
        print(f"| {what} | {times[0]:.2f} ms | {times[1]:.2f} ms | {times[1] / times[0]:.2f} |")


if __name__ == "__main__":
    main()
