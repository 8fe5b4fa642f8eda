"""Prints what a threshold costs and gives: python -m benchmarks.threshold ../shared/data/lfw_dev

The data: a folder ``images/NAME/NAME_0001.jpg`` of one main face a picture (Labeled Faces in the Wild).
Of every person the first picture is enrolled, as `facecam enroll` does it (the crop and its mirror image
averaged); people whom the embedder in use was trained on are left out. Probes are single crops, as a video gives them:

- impostor pairs: the first picture of everybody against everybody else's enrolment;
- genuine pairs: every further picture of a person against that person's enrolment.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.lfw import trained_on
from facecam.engine import Engine, open_engine
from facecam.settings import Settings, min_face_pixels
from facecam.values import Face, Image
from facecam.video.photos import read_photo
from facecam.vision.align import align

#: Crops embedded in one call.
BATCH = 64
#: Thresholds of the table, steps of 0.005 around the default: how many below it, and above.
BELOW, ABOVE = 8, 7
#: Galleries drawn at random, to see how often a stranger is named in one of this many people.
GALLERY, DRAWS, SEED = 100, 200, 0

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """Vectors of all pictures with a face.

    Attributes:
        owner: int, n: index of the person; enrolled: bool, n: whether it is the person's first picture.
        single: float32, n x D: one crop. mirrored: float32, people x D: the first picture with its mirror image.
        people: names. without: pictures in which no face was found.
    """

    owner: NDArray[np.int64]
    enrolled: NDArray[np.bool_]
    single: Vectors
    mirrored: Vectors
    people: list[str]
    without: int


def main_face(engine: Engine, image: Image) -> Face | None:
    """The largest face near the middle, with landmarks."""
    height, width = image.shape[:2]
    faces = engine.detector.detect(image, min_face_pixels(engine.settings.min_face, height))
    if not faces:
        return None

    def weight(face: Face) -> float:
        x, y = face.centre
        return face.size - math.hypot(x - width / 2, y - height / 2)

    return engine.landmarker.locate(image, [max(faces, key=weight)])[0]


def pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    for person in sorted(p for p in folder.iterdir() if p.is_dir()):
        for path in sorted(person.glob("*.jpg")):
            yield person.name, path


def embed_all(engine: Engine, folder: Path) -> Embedded:
    """Find, align and embed the main face of every picture."""
    owner: list[int] = []
    enrolled: list[bool] = []
    single: list[Vectors] = []
    mirrored: list[Vectors] = []
    people: dict[str, int] = {}
    left_out = trained_on(engine)
    crops: list[Image] = []
    firsts: list[Image] = []
    without = 0
    for name, path in pictures(folder):
        if name in left_out:
            continue
        image = read_photo(path)
        face = main_face(engine, image)
        if face is None:
            without += 1
            continue
        crop = align(image, face, engine.embedder.template)
        enrolled.append(name not in people)
        owner.append(people.setdefault(name, len(people)))
        crops.append(crop)
        if enrolled[-1]:
            firsts.append(crop)
        if len(crops) == BATCH:
            single.append(engine.embedder.embed(crops))
            mirrored.append(engine.embedder.embed(firsts, mirror=True))
            crops, firsts = [], []
    single.append(engine.embedder.embed(crops))
    mirrored.append(engine.embedder.embed(firsts, mirror=True))
    return Embedded(
        np.array(owner), np.array(enrolled), np.concatenate(single), np.concatenate(mirrored), list(people), without
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="False match rate and genuine pairs accepted, by threshold.")
    parser.add_argument("folder", type=Path, help="folder with images/NAME/*.jpg")
    parser.add_argument("--pack", help="model pack; default: the one in use")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    arguments = parser.parse_args()
    engine = open_engine(Settings(pack=arguments.pack, device=arguments.device))
    start = time.perf_counter()
    data = embed_all(engine, arguments.folder / "images")
    probes = data.single[data.enrolled]
    between = probes @ data.mirrored.T  # probe of i against the enrolment of j
    impostor = between[~np.eye(len(between), dtype=bool)]
    rest = ~data.enrolled
    genuine = (data.single[rest] * data.mirrored[data.owner[rest]]).sum(axis=1)
    per_person = [genuine[data.owner[rest] == i] for i in np.unique(data.owner[rest])]
    np.fill_diagonal(between, -1.0)
    rng = np.random.default_rng(SEED)
    size = min(GALLERY, len(between) - 1)
    best = np.stack([between[:, rng.choice(len(between), size, replace=False)].max(axis=1) for _ in range(DRAWS)])

    seconds = time.perf_counter() - start
    print(f"pack {engine.pack}, default threshold {engine.threshold:g}, {seconds:.0f} s on the {engine.device.name};")
    print(f"{len(data.people)} people, {len(data.owner)} pictures with a face, {data.without} without;")
    print(f"{len(impostor)} impostor pairs, {len(genuine)} genuine pairs of {len(per_person)} people")
    print()
    print(f"| threshold | false match rate | genuine accepted | mean over people | strangers named among {size} |")
    print("|---|---|---|---|---|")
    middle = round(engine.threshold / 0.005)
    steps = (round(0.005 * (middle + k), 3) for k in range(-BELOW, ABOVE + 1))
    for threshold in sorted({*steps, engine.threshold}):
        accepted = float(np.mean([np.mean(scores >= threshold) for scores in per_person]))
        shown = f"**{threshold:.3f}**" if threshold == engine.threshold else f"{threshold:.3f}"
        matched, taken, named = (float(np.mean(scores >= threshold)) for scores in (impostor, genuine, best))
        print(f"| {shown} | {matched:.2e} | {taken:.1%} | {accepted:.1%} | {named:.1%} |")


if __name__ == "__main__":
    main()
