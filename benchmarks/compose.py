"""Composes a clip of moving people out of photos of lfw_dev, with the truth of who is where.

Usage: python -m benchmarks.compose --out FOLDER [--size 1920x1080] [--faces 8] [--seconds 10] [--seed 0] [--still]

FOLDER must lie outside of the project: nothing made of these photos is ever committed. Written are

    compose-1920x1080-8.mp4          the clip: H.264, a background with grain that pans slowly
    compose-1920x1080-8.boxes.csv    frame,name,x,y,w,h,visible: every face in every frame
    compose-1920x1080-8.truth.csv    start_frame,end_frame,name,required: what `facecam eval clip` reads
    compose-1920x1080-8.people/      NAME/*: other photos of three in four of them, to enrol; the rest are strangers

Each person keeps to a cell of a grid, moves smoothly about it, turns, comes nearer and leaves; with eight or
fewer faces two walk across the whole picture, so that faces cross. The same arguments give the same clip.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.lfw import ROOT, data_folder, half
from facecam.geometry import overlap
from facecam.values import Box, Image

#: Where the face is in a photo of lfw_dev (they are aligned): x, y, w, h, pixels; the median of the embedded
#: detector's boxes over 70 photos, whose middle 80 % lie within 8 px of it.
FACE = (73.0, 78.0, 97.0, 97.0)
#: Centre and half axes of the head that is cut out of a photo, pixels.
HEAD = ((125, 122), (68, 88))
#: Side of a photo, pixels.
PHOTO = 250
#: Sides of the faces as shares of the smaller side of a cell, least and most.
SIZE = (0.20, 0.42)
#: No face is smaller than this, pixels: below --min-face nobody is asked for.
SMALLEST = 48.0
#: Grain of the pictures, standard deviation in grey levels: 1080p comes to 4 Mbit/s, as from a street camera.
GRAIN = 3.0
#: A face of which less than this is to be seen is not asked for.
VISIBLE = 0.7


@dataclass(frozen=True, slots=True)
class Actor:
    """One person of the clip.

    Attributes:
        photo: BGR uint8. centre, reach: of the motion, pixels; rates: cycles a clip (x, y, size, turn), phases alike.
        sizes: least and greatest side of the face, pixels. walks: crosses the picture instead.
    """

    name: str
    photo: Image
    centre: tuple[float, float]
    reach: tuple[float, float]
    rates: tuple[float, float, float, float]
    phases: tuple[float, float, float, float]
    sizes: tuple[float, float]
    walks: int = 0

    def place(self, u: float, width: int) -> tuple[float, float, float, float]:
        """At a share ``u`` of the clip: x and y of the face's centre, its side (pixels), its turn (degrees)."""
        wave = [math.sin(2 * math.pi * (r * u + p)) for r, p in zip(self.rates, self.phases)]
        side = self.sizes[0] + (self.sizes[1] - self.sizes[0]) * (0.5 + 0.5 * wave[2])
        x = self.centre[0] + self.reach[0] * wave[0]
        if self.walks:
            along = -0.15 + 1.3 * u
            x = width * (along if self.walks > 0 else 1 - along)
        return x, self.centre[1] + self.reach[1] * wave[1], side, 7.0 * wave[3]


def cast(count: int, width: int, height: int, seed: int) -> tuple[list[Actor], dict[str, list[Path]]]:
    """Choose people and their ways; returns them and, for those who may be enrolled, their other photos."""
    from facecam.video.photos import read_photo

    folders = sorted(f for f in (data_folder() / "lfw_dev" / "images").iterdir() if half(f.name) == 1)
    rng = np.random.default_rng(seed)
    photos = {f.name: sorted(f.glob("*.jpg")) for f in folders}
    known = [n for n in photos if len(photos[n]) >= 4]
    other = [n for n in photos if len(photos[n]) == 1]
    strangers = count // 4
    chosen = [known[i] for i in rng.permutation(len(known))[: count - strangers]]
    chosen += [other[i] for i in rng.permutation(len(other))[:strangers]]
    columns = max(1, math.ceil(math.sqrt(count * width / height)))
    rows = max(1, math.ceil(count / columns))
    cell_w, cell_h = width / columns, height / rows
    cells = rng.permutation(columns * rows)[:count]
    actors = []
    for number, (name, cell) in enumerate(zip(chosen, cells.tolist())):
        low, high = (max(SMALLEST, share * min(cell_w, cell_h)) for share in sorted(rng.uniform(*SIZE, 2)))
        actors.append(
            Actor(
                name,
                read_photo(photos[name][0]),
                ((cell % columns + 0.5) * cell_w, (cell // columns + 0.5) * cell_h),
                (0.3 * cell_w, 0.2 * cell_h),
                (*(float(r) for r in rng.uniform(0.8, 2.2, 3)), float(rng.uniform(1, 3))),
                tuple(float(p) for p in rng.uniform(0, 1, 4)),  # type: ignore[arg-type]
                (low, high),
                walks=(1, -1)[number % 2] if count <= 8 and count >= 4 and number < 2 else 0,
            )
        )
    return actors, {name: photos[name][1:4] for name in chosen if name in known}


def _mask() -> NDArray[np.float32]:
    mask = np.zeros((PHOTO, PHOTO), np.float32)
    cv2.ellipse(mask, HEAD[0], HEAD[1], 0, 0, 360, (1.0,), -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 5), np.float32)


def _paste(
    picture: Image, photo: Image, mask: NDArray[np.float32], x: float, y: float, side: float, turn: float
) -> Box:
    """Put a head where its face has its centre at (x, y); returns the face's box."""
    scale = side / FACE[2]
    if scale < 0.5:  # bilinear sampling would alias
        small = max(8, round(PHOTO * scale))
        photo, mask = (cv2.resize(p, (small, small), interpolation=cv2.INTER_AREA) for p in (photo, mask))  # type: ignore[assignment]
        scale *= PHOTO / small
    shrunk = len(photo) / PHOTO
    middle = ((FACE[0] + FACE[2] / 2) * shrunk, (FACE[1] + FACE[3] / 2) * shrunk)
    matrix = cv2.getRotationMatrix2D(middle, turn, scale)
    reach = math.ceil(0.8 * PHOTO * side / FACE[2])
    left, top = math.floor(x) - reach, math.floor(y) - reach
    matrix[:, 2] += (x - left - middle[0], y - top - middle[1])
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(picture.shape[1], left + 2 * reach), min(picture.shape[0], top + 2 * reach)
    if x1 > x0 and y1 > y0:
        size = (2 * reach, 2 * reach)
        inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        head = cv2.warpAffine(photo, matrix, size)[inside].astype(np.float32)
        cover = cv2.warpAffine(mask, matrix, size)[inside][..., None]
        part = picture[y0:y1, x0:x1]
        part[:] = np.rint(part + cover * (head - part)).astype(np.uint8)
    return x - side / 2, y - side / 2, side, side


def pictures(
    actors: Sequence[Actor], width: int, height: int, frames: int, seed: int, still: bool = False
) -> Iterator[tuple[Image, list[Box]]]:
    """The frames (BGR uint8) with the box of each actor's face, in the actors' order; later ones stand in front."""
    from facecam.demo import BACKGROUND, package_file
    from facecam.video.photos import read_photo

    rng = np.random.default_rng(seed + 1)
    pan = 0 if still else round(0.03 * width)
    wide = cv2.resize(read_photo(package_file(*BACKGROUND)), (width + 2 * pan, height + 2 * pan))
    grain = np.rint(rng.normal(0, GRAIN, (height + 64, width + 64, 1))).astype(np.int16)
    mask = _mask()
    for index in range(frames):
        u = index / max(1, frames - 1)
        dx = pan * (1 + math.sin(2 * math.pi * u))
        matrix = np.array([[1.0, 0.0, -dx], [0.0, 1.0, -pan * (1 + math.cos(2 * math.pi * u)) / 2]])
        picture = np.asarray(cv2.warpAffine(wide, matrix, (width, height)), np.uint8)
        boxes = [_paste(picture, actor.photo, mask, *actor.place(u, width)) for actor in actors]
        gx, gy = rng.integers(0, 64, 2)
        yield np.clip(picture + grain[gy : gy + height, gx : gx + width], 0, 255).astype(np.uint8), boxes


def visible(boxes: Sequence[Box], width: int, height: int) -> list[float]:
    """Share of each face's box that lies inside the picture and behind nobody (several in front count singly)."""
    shares = []
    for i, box in enumerate(boxes):
        area = box[2] * box[3]
        inside = overlap(box, (0.0, 0.0, float(width), float(height)))
        hidden = sum(overlap(box, other) for other in boxes[i + 1 :])
        shares.append(max(0.0, (inside - hidden) / area))
    return shares


def compose(
    folder: Path,
    *,
    size: tuple[int, int] = (1920, 1080),
    faces: int = 8,
    seconds: float = 10,
    fps: int = 30,
    seed: int = 0,
    still: bool = False,
) -> Path:
    """Write the clip, its truth and the photos to enrol; returns the clip's path. One that is there is kept."""
    if ROOT in (folder.resolve(), *folder.resolve().parents):
        raise SystemExit(f"{folder} is inside the project; give a folder outside of it with --out")
    width, height = size
    folder.mkdir(parents=True, exist_ok=True)
    name = f"compose-{width}x{height}-{faces}"
    name += (f"-{seconds:g}s" if seconds != 10 else "") + (f"-{seed}" if seed else "") + ("-still" if still else "")
    clip = folder / f"{name}.mp4"
    if clip.exists():
        return clip
    actors, others = cast(faces, width, height, seed)
    frames = round(seconds * fps)
    seen: list[list[float]] = []
    part = folder / f"{name}.part.mp4"
    with (folder / f"{name}.boxes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("frame", "name", "x", "y", "w", "h", "visible"))
        with _Film(part, width, height, fps) as film:
            for index, (picture, boxes) in enumerate(pictures(actors, width, height, frames, seed, still)):
                film.write(picture)
                seen.append(visible(boxes, width, height))
                for actor, box, share in zip(actors, boxes, seen[-1]):
                    table.writerow((index, actor.name, *(f"{v:.1f}" for v in box), f"{share:.2f}"))
    _truth(folder / f"{name}.truth.csv", actors, seen, set(others))
    for person, files in others.items():
        target = folder / f"{name}.people" / person.replace("_", " ")
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, target)
    part.rename(clip)
    return clip


def _truth(path: Path, actors: Sequence[Actor], seen: Sequence[Sequence[float]], known: set[str]) -> None:
    """Stretches in which a face is there, asked for where enough of it shows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("start_frame", "end_frame", "name", "required"))
        for i, actor in enumerate(actors):
            name = actor.name.replace("_", " ") if actor.name in known else "unknown"
            states = ["yes" if row[i] >= VISIBLE else "no" if row[i] > 0.1 else "" for row in seen]
            start = 0
            for index in range(1, len(states) + 1):
                if index == len(states) or states[index] != states[start]:
                    if states[start]:
                        table.writerow((start, index - 1, name, states[start]))
                    start = index


class _Film:
    """Encodes as cameras and editors do (B-frames, CABAC), which `VideoSink` for speed does not."""

    def __init__(self, path: Path, width: int, height: int, fps: int) -> None:
        import av

        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=fps)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"preset": "fast", "crf": "22"}

    def __enter__(self) -> _Film:
        return self

    def write(self, picture: Image) -> None:
        import av

        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))

    def __exit__(self, *_: object) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A clip of moving people out of photos of lfw_dev, with its truth.")
    parser.add_argument("--out", type=Path, required=True, help="a folder outside of the project")
    parser.add_argument("--size", default="1920x1080", help="width x height in pixels (default: 1920x1080)")
    parser.add_argument("--faces", type=int, default=8, help="people in the picture, 0 to 50 (default: 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other people and ways (default: 0)")
    parser.add_argument("--still", action="store_true", help="a camera that stands: the background does not pan")
    arguments = parser.parse_args()
    width, _, height = arguments.size.partition("x")
    clip = compose(
        arguments.out,
        size=(int(width), int(height)),
        faces=arguments.faces,
        seconds=arguments.seconds,
        seed=arguments.seed,
        still=arguments.still,
    )
    megabits = clip.stat().st_size * 8 / 1e6 / arguments.seconds
    print(f"{clip}: {arguments.size}, {arguments.faces} people, {arguments.seconds:g} s, {megabits:.1f} Mbit/s")


if __name__ == "__main__":
    main()
