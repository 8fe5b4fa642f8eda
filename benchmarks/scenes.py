"""Makes what the scout learns from: pictures full of faces and other things, and what the detector says of them.

Usage: python -m benchmarks.scenes --out scenes-1.npz [--count 1000] [--seed 1] [--sheet FILE] [PEOPLE] [OTHERS]

Photos of people (the half of lfw_dev that benchmarks/lfw.py numbers 0, so that clips composed of the other half show
nobody of these), of cats and of dogs are turned, scaled and laid over each other, with lines and letters; then light,
colour, blur, grain and JPEG do their worst. The detector looks at each scene at two levels of its pyramid. For every
cell of the scout's maps its best answer there is kept. OUT must lie outside of the project: nothing made of these
photos is ever committed. `python -m train.scout` learns from such files.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.compose import FACE as FACE_BOX
from benchmarks.compose import HEAD
from benchmarks.lfw import ROOT, data_folder, half
from facecam.engine import open_engine
from facecam.settings import Settings
from facecam.values import Image
from facecam.video.photos import read_photo
from facecam.vision.detect import ALIGN, MmodDetector
from facecam.vision.resize import resized
from facecam.vision.scout import SMALLEST, STEP
from facecam.vision.scout import STRIDE as CELL
from facecam.vision.tensor import feed
from facecam.vision.tiles import BORDER, FIRST, STRIDE, WINDOW

#: Side of a scene at the finer of the two levels, and of what the scout sees of it, pixels; cells of its maps.
SIDE = 640
SEEN = SIDE * SMALLEST // WINDOW
CELLS = SEEN // CELL
#: How far beside a cell an answer still counts as its own, pixels of the level.
SLACK = 6.0
#: Width of the face in a photo of lfw_dev; what of a cat or dog is taken for as much.
FACE, OTHER = FACE_BOX[2], 60
#: Sides of faces, pixels of a scene: from too small to too large for its two levels.
FACES = (58, 165)

Rng = np.random.Generator
Floats = NDArray[np.float32]


@cache
def photo(path: Path) -> Image:
    return read_photo(path)


def choose(rng: Rng, paths: list[Path]) -> Image:
    return photo(paths[int(rng.integers(len(paths)))])


def chance(rng: Rng, share: float) -> bool:
    return bool(rng.random() < share)


def lay(rng: Rng, scene: Floats, image: Image, is_face: bool) -> None:
    """Lay a photo over the scene, turned and scaled: whole, or of a face the head alone."""
    side = scene.shape[0]
    size = np.exp(rng.uniform(*np.log(FACES))) * side / SIDE
    zoom = size / (FACE if is_face else OTHER)
    turn = rng.normal(0, 14) if is_face else rng.uniform(-30, 30)
    if is_face and chance(rng, 0.06):
        turn = rng.uniform(-60, 60)
    if chance(rng, 0.5):
        image = np.ascontiguousarray(image[:, ::-1])
    height, width = image.shape[:2]
    mask = np.full((height, width), 255, np.uint8)
    if is_face and chance(rng, 0.5):
        mask[:] = 0
        (x, y), (a, b) = HEAD
        axes = a + int(rng.integers(-3, 15)), b + int(rng.integers(-3, 15))
        cv2.ellipse(mask, (x, y), axes, 0, 0, 360, 255, -1)
    if zoom < 0.7:  # what is shrunk linearly aliases
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.35 / zoom), np.uint8)
    place = cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom)
    stretch = rng.uniform(0.88, 1.14)
    place[0] *= stretch
    place[:, 2] += rng.uniform(0, side, 2) - (width / 2 * stretch, height / 2)
    laid = np.asarray(cv2.warpAffine(image, place, (side, side)), np.float32)
    if is_face and chance(rng, 0.15):  # little contrast
        laid = laid * rng.uniform(0.4, 1) + rng.uniform(0, 60)
    share = np.asarray(cv2.warpAffine(mask, place, (side, side)), np.float32)[..., None] / 255
    scene[:] = scene * (1 - share) + laid * share


def clutter(rng: Rng, scene: Image) -> None:
    """Lines, discs, frames and letters."""
    side = scene.shape[0]
    for _ in range(int(rng.integers(0, 7))):
        a, b = (tuple(int(v) for v in rng.integers(0, side, 2)) for _ in range(2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        kind = rng.random()
        if kind < 0.3:
            cv2.line(scene, a, b, colour, int(rng.integers(1, 20)))
        elif kind < 0.5:
            cv2.circle(scene, a, int(rng.integers(4, 90)), colour, int(rng.choice([-1, 2, 6])))
        elif kind < 0.75:
            cv2.rectangle(scene, a, b, colour, int(rng.choice([2, 4, 10])))
        else:
            word = "".join(rng.choice(list("ABCDEFGHabcdefgh0123456789"), 8))
            font, size, thick = int(rng.integers(0, 8)), float(rng.uniform(0.5, 4)), int(rng.integers(1, 7))
            cv2.putText(scene, word, a, font, size, colour, thick)


def ground(rng: Rng, side: int, people: list[Path], others: list[Path]) -> Floats:
    """What is behind all: clouds of colour, an animal, or the upper edge of a photo, much enlarged."""
    kind = rng.random()
    if kind < 0.25:
        cells = int(rng.choice([4, 20, 80]))
        clouds = np.asarray(rng.normal(0, rng.uniform(0, 40), (cells, cells, 3)), np.float32)
        return np.asarray(cv2.resize(clouds, (side, side)) + rng.uniform(0, 255, 3), np.float32)
    if kind < 0.7:
        image = choose(rng, others)
        square = min(image.shape[:2])
        return np.asarray(cv2.resize(image[:square, :square], (side, side)), np.float32)
    return np.asarray(cv2.resize(choose(rng, people)[:60], (side, side)), np.float32)


def weathered(rng: Rng, scene: Floats) -> Image:
    """Colour and light, blur, grain, JPEG."""
    if chance(rng, 0.25):
        scene = np.repeat(scene.mean(axis=2, keepdims=True), 3, axis=2)
    if chance(rng, 0.5):
        scene = scene * np.asarray(rng.uniform(0.8, 1.2, 3), np.float32)
    if chance(rng, 0.7):
        scene = 255 * np.clip(scene / 255, 0, 1) ** np.float32(2 ** rng.uniform(-0.8, 0.8))
    if chance(rng, 0.6):
        scene = (scene - scene.mean()) * rng.uniform(0.45, 1.3) + scene.mean() + rng.uniform(-30, 30)
    if chance(rng, 0.3):
        scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.4, 2.2) * scene.shape[0] / SIDE), np.float32)
    if chance(rng, 0.2):
        length = int(rng.integers(2, 8))
        smear = np.zeros((length, length), np.float32)
        smear[length // 2] = 1 / length
        scene = np.asarray(cv2.filter2D(scene, -1, smear if chance(rng, 0.6) else smear.T), np.float32)
    if chance(rng, 0.6):
        scene = scene + rng.normal(0, rng.uniform(0, 12), scene.shape)
    made = np.clip(scene, 0, 255).astype(np.uint8)
    if chance(rng, 0.5):
        packed = cv2.imencode(".jpg", made, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 93))])[1]
        made = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return made


def compose(rng: Rng, people: list[Path], others: list[Path]) -> Image:
    """A scene, BGR uint8; half of them of half the side, for levels that enlarge the picture."""
    side = SIDE // 2 if chance(rng, 0.5) else SIDE
    scene = ground(rng, side, people, others)
    for _ in range(int(rng.integers(3, 15))):
        is_face = chance(rng, 0.7)
        lay(rng, scene, choose(rng, people if is_face else others), is_face)
    drawn = np.clip(scene, 0, 255).astype(np.uint8)  # OpenCV writes on whole numbers only
    if chance(rng, 0.5):
        clutter(rng, drawn)
    return weathered(rng, drawn.astype(np.float32))


def answers(detector: MmodDetector, level: Image) -> Floats:
    """The detector's map of a level: rows x columns."""
    fill = -(level.shape[1] + 2 * BORDER) % ALIGN
    framed = cv2.copyMakeBorder(level, BORDER, BORDER, BORDER, BORDER + fill, cv2.BORDER_CONSTANT)
    score: Floats = feed(detector.model, [np.asarray(framed, np.uint8)])[0, 0]
    return score


def best(score: Floats, scale: float) -> Floats:
    """For every cell of the scout the detector's best answer in it, of a map at that scale of the scene."""
    cell = SIDE / CELLS
    near = []
    for length in score.shape:
        middles = (STRIDE * np.arange(length) + FIRST - BORDER + 0.5) / scale
        begins = cell * np.arange(CELLS)[:, None]
        near.append((middles > begins - SLACK / scale) & (middles < begins + cell + SLACK / scale))
    rows = np.stack([score[:, columns].max(axis=1, initial=-5.0) for columns in near[1]], axis=1)
    return np.stack([rows[some].max(axis=0, initial=-5.0) for some in near[0]])


def main() -> None:
    parser = argparse.ArgumentParser(description="Scenes, and the detector's answers, for python -m train.scout.")
    parser.add_argument("people", type=Path, nargs="?", default=data_folder() / "lfw_dev")
    parser.add_argument("others", type=Path, nargs="?", default=data_folder() / "cats_dogs" / "train")
    parser.add_argument("--out", type=Path, required=True, help="file to write, outside of the project")
    parser.add_argument("--count", type=int, default=1000, help="scenes (default: 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="a picture of the first 24")
    arguments = parser.parse_args()
    if ROOT in arguments.out.resolve().parents:
        raise SystemExit(f"{arguments.out} lies in the project: nothing made of these photos is committed")
    people = [p for p in sorted(arguments.people.rglob("*.jpg")) if half(p.parent.name) == 0]
    others = sorted(arguments.others.rglob("*.jpg"))
    detector = open_engine(Settings(device="cpu")).video_detector
    if not isinstance(detector, MmodDetector):
        raise SystemExit("the pack in use has no detector with a scout; see facecam models")
    rng = np.random.default_rng(arguments.seed)
    seen = np.zeros((arguments.count, SEEN, SEEN, 3), np.uint8)
    said = np.zeros((arguments.count, 2, CELLS, CELLS), np.float16)
    coarser = round(SIDE / STEP)
    for i in range(arguments.count):
        scene = compose(rng, people, others)
        seen[i] = resized(scene, (SEEN, SEEN))
        level = resized(scene, (SIDE, SIDE))
        said[i, 0] = best(answers(detector, level), 1.0)
        said[i, 1] = best(answers(detector, resized(level, (coarser, coarser))), coarser / SIDE)
    np.savez(arguments.out, seen=seen, said=said)
    print(f"{arguments.count} scenes, {int((said > 0).sum())} cells with a face: {arguments.out}")
    if arguments.sheet:
        rows = [np.hstack(list(seen[k : k + 6])) for k in range(0, min(24, arguments.count // 6 * 6), 6)]
        cv2.imwrite(str(arguments.sheet), np.vstack(rows))


if __name__ == "__main__":
    main()
