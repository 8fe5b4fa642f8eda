"""Does the promise hold for poor pictures? Strangers named when probes, or all pictures, are dark, blurred or small.

Usage: python -m benchmarks.poor
People: as benchmarks/promise.py, four photos each. Of everybody enrolled up to three photos; the others are probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.lfw import data_folder, half
from facecam.engine import Engine, open_engine
from facecam.evaluate.faces import main_face
from facecam.people.match import Matcher
from facecam.people.quality import measure
from facecam.settings import Settings
from facecam.values import Image
from facecam.video.photos import read_photo
from facecam.vision.align import align
from facecam.vision.landmarks import locate_steadily
from facecam.vision.still import embed_stills, still_crops

RISK, DRAWS, PEOPLE, PHOTOS, BATCH = 0.001, 20, 50, 4, 12


def small(image: Image) -> Image:
    return np.asarray(cv2.resize(image, None, fx=0.42, fy=0.42, interpolation=cv2.INTER_AREA), np.uint8)


def blurred(image: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 2.5), np.uint8)


def squeezed(image: Image) -> Image:
    half_size = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", half_size, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def dark(share: float) -> Callable[[Image], Image]:
    """So much of the light, with the noise of a camera that must do with it."""

    def darker(image: Image) -> Image:
        noise = np.random.default_rng(0).normal(0, 5, image.shape)
        return np.asarray(np.clip(image * share + noise, 0, 255), np.uint8)

    return darker


CONDITIONS: dict[str, Callable[[Image], Image]] = {
    "as they are": lambda image: image,
    "faces of 41 pixels": small,
    "half size, JPEG of quality 30": squeezed,
    "blurred": blurred,
    "half the light, with noise": dark(0.5),
    "a quarter of the light": dark(0.25),
    "a sixth of the light": dark(0.18),
}


@dataclass(frozen=True)
class Seen:
    """One picture: whose, its vector as a photo and as a video frame (float32, D each), its quality's parts."""

    name: str
    condition: str
    still: NDArray[np.float32]
    live: NDArray[np.float32]
    parts: tuple[float, float, float]


def look(engine: Engine, paths: list[Path]) -> list[Seen]:
    found, stills, crops = [], [], []
    for path in paths:
        image = read_photo(path)
        for condition, change in CONDITIONS.items():
            changed = change(image)
            face = main_face(engine.detector, changed, 24)
            if face is None:
                continue
            located = engine.landmarker.locate(changed, [face])[0]
            crops.append(align(changed, located, engine.embedder.template))
            quality = measure(crops[-1], located)
            found.append((path.parent.name, condition, (quality.overall, quality.light, quality.laplacian)))
            steady = locate_steadily(engine.landmarker, changed, [face])[0]
            stills.append(still_crops(changed, steady, engine.embedder.template))
    rows = zip(found, embed_stills(engine.embedder, stills), engine.video_embedder.embed(crops))
    return [Seen(name, condition, still, live, parts) for (name, condition, parts), still, live in rows]


def people() -> Iterator[Path]:
    for folder in sorted((data_folder() / "lfw_dev" / "images").iterdir()):
        if half(folder.name) == 1:
            yield from sorted(folder.glob("*.jpg"))[:PHOTOS]


def rates(
    engine: Engine, seen: list[Seen], enrolled: str, probed: str, kind: Callable[[Seen], NDArray[np.float32]]
) -> tuple[float, float]:
    """Strangers named, and known people named rightly: means over the draws."""
    gallery: dict[str, list[Seen]] = {}
    probes: dict[str, list[Seen]] = {}
    for one in seen:
        if one.condition == enrolled:
            gallery.setdefault(one.name, []).append(one)
        if one.condition == probed:
            probes.setdefault(one.name, []).append(one)
    names = sorted(gallery.keys() & probes.keys())
    wrong, right = [], []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        known = [names[i] for i in rng.permutation(len(names))[:PEOPLE]]
        counts = [min(3, max(1, len(gallery[name]) - 1)) for name in known]
        rows = np.stack([one.still for name, count in zip(known, counts) for one in gallery[name][:count]])
        owner = np.repeat(np.arange(len(known)), counts).astype(np.int32)
        matcher = Matcher(known, owner, rows, threshold=engine.threshold_for(counts))
        strangers = np.stack([kind(one) for name in names if name not in set(known) for one in probes[name]])
        wrong.append(np.mean([match.name is not None for match in matcher.match(strangers)]))
        others = [(name, kind(one)) for name, count in zip(known, counts) for one in probes[name][count:]]
        answers = matcher.match(np.stack([vector for _, vector in others]))
        right.append(np.mean([match.name == name for match, (name, _) in zip(answers, others)]))
    return float(np.mean(wrong)), float(np.mean(right))


def main() -> None:
    cv2.setNumThreads(1)
    engine = open_engine(Settings(device="cpu", threads=1, max_false_names=RISK))
    files = list(people())
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda start: look(engine, files[start : start + BATCH]), range(0, len(files), BATCH))
        seen = [one for part in parts for one in part]
    print(
        f"{len(files)} photos; galleries of {PEOPLE} people, {DRAWS} draws; risk {RISK} a stranger; {engine.precision}"
    )
    head = ("pictures", "quality", "light", "sharpness", "enrolled from good ones: strangers named in photos",
            "in a frame of video", "known people named in photos",
            "enrolled from such, too: strangers named in photos")  # fmt: skip
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    good = next(iter(CONDITIONS))
    for condition in CONDITIONS:
        quality = np.median([one.parts for one in seen if one.condition == condition], axis=0)
        photo, named = rates(engine, seen, good, condition, lambda one: one.still)
        video, _ = rates(engine, seen, good, condition, lambda one: one.live)
        alike, _ = rates(engine, seen, condition, condition, lambda one: one.still)
        print(
            f"| {condition} | {quality[0]:.2f} | {quality[1]:.2f} | {quality[2]:.0f} | {photo:.5f} | {video:.5f} "
            f"| {named:.2f} | {alike:.5f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
