"""Shows the main job on two portraits that pip installed: one enrolled, the other a stranger."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.archive.inputs import VIDEO, Item
from facecam.archive.label import Labelled, label_video, prepare
from facecam.archive.outputs import CSV, JSONL, VIDEO_COPY, Outputs
from facecam.engine import Engine
from facecam.enrolment import Enroller, EnrolOptions
from facecam.errors import DependencyMissing
from facecam.people.gallery import Gallery
from facecam.values import Image, SourceInfo
from facecam.video.photos import read_photo
from facecam.video.sinks import VideoSink

FPS: Final = 25
SECONDS: Final = 14
SIZE: Final = (960, 540)
KNOWN: Final = "Grace Hopper"

#: (package, file below it, where the head and shoulders are: centre and half axes in pixels)
HOPPER: Final = ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (258, 235, 175, 235))
COLLINS: Final = ("skimage", "data/astronaut.png", (222, 118, 105, 125))
BACKGROUND: Final = ("skimage", "data/motorcycle_left.png")


def package_file(package: str, name: str) -> Path:
    """A picture inside an installed package, found without importing it.

    Raises:
        DependencyMissing: the package or the picture is absent.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / name
        if path.is_file():
            return path
    raise DependencyMissing(f"the demo needs the pictures inside {package}; run: pip install 'facecam[demo]'")


@dataclass(frozen=True, slots=True)
class Actor:
    """A cut-out head with its path through the clip.

    Attributes:
        cutout: BGR uint8; mask: float32, 0 to 1, same size.
        place: time in seconds -> (centre x, centre y, height of the head in pixels, light 0 to 1), or None
            while off stage.
    """

    cutout: Image
    mask: NDArray[np.float32]
    place: Callable[[float], tuple[float, float, float, float] | None]


def _hopper(t: float) -> tuple[float, float, float, float] | None:
    if 0.6 <= t < 6.0:  # comes from the left, grows, walks out on the left
        u = (t - 0.6) / 5.4
        return -120 + 560 * math.sin(math.pi * u), 290 + 20 * math.sin(3 * t), 190 + 130 * math.sin(math.pi * u), 1.0
    if 8.5 <= t < 13.6:  # returns in the dark, and the light comes up
        u = (t - 8.5) / 5.1
        return -100 + 430 * min(1.0, 1.6 * u), 280 + 12 * math.sin(4 * t), 230.0, 0.35 + 0.65 * min(1.0, 1.4 * u)
    return None


def _collins(t: float) -> tuple[float, float, float, float] | None:
    if 3.0 <= t < 12.5:  # from the right, away and back again, darker half-way
        u = (t - 3.0) / 9.5
        size = 250 - 110 * math.sin(math.pi * u) ** 2
        return (
            1060 - 420 * min(1.0, 4 * u, 4 * (1 - u)),
            250 + 40 * math.sin(1.7 * t),
            size,
            1 - 0.5 * math.sin(math.pi * u),
        )
    return None


def actor(
    where: tuple[str, str, tuple[int, int, int, int]],
    place: Callable[[float], tuple[float, float, float, float] | None],
) -> Actor:
    """Cut a head out of a picture of `HOPPER`'s kind."""
    image = read_photo(package_file(where[0], where[1]))
    cx, cy, ax, ay = where[2]
    x0, y0 = max(0, cx - ax), max(0, cy - ay)
    cutout = image[y0 : cy + ay, x0 : cx + ax]
    mask = np.zeros(cutout.shape[:2], np.float32)
    cv2.ellipse(mask, (cx - x0, cy - y0), (round(ax * 0.9), round(ay * 0.92)), 0, 0, 360, (1.0,), -1)
    return Actor(cutout, np.asarray(cv2.GaussianBlur(mask, (0, 0), 7), np.float32), place)


def render(path: Path, *, overwrite: bool) -> None:
    """Write the demo's clip: both people come, move, grow, shrink, darken, leave and return."""
    film(path, [actor(COLLINS, _collins), actor(HOPPER, _hopper)], SIZE, SECONDS, FPS, overwrite=overwrite)


def film(
    path: Path, actors: Sequence[Actor], size: tuple[int, int], seconds: float, fps: int, *, overwrite: bool
) -> None:
    """Write a clip of actors, the later ones in front.

    Args:
        size: (width, height) in pixels.
    """
    width, height = size
    background = cv2.resize(read_photo(package_file(*BACKGROUND)), size, interpolation=cv2.INTER_AREA)
    frames = round(seconds * fps)
    info = SourceInfo(path.stem, width, height, fps=fps, duration=seconds, frames=frames)
    rng = np.random.default_rng(0)  # sensor noise: a rendered clip without any flatters a detector
    noise = rng.normal(0, 2.5, (height + 64, width + 64, 3)).astype(np.float32)
    with VideoSink(path, info, overwrite=overwrite) as sink:
        for index in range(frames):
            t = index / fps
            frame = background.astype(np.float32)
            for one in actors:
                _paste(frame, one, t)
            dx, dy = rng.integers(0, 64, 2)
            frame += noise[dy : dy + height, dx : dx + width]
            sink.write(np.clip(frame, 0, 255).astype(np.uint8), t)


def _paste(frame: NDArray[np.float32], one: Actor, t: float) -> None:
    now = one.place(t)
    if now is None:
        return
    x, y, size, light = now
    h, w = one.mask.shape
    scale = size / h
    matrix = np.array([[scale, 0, x - scale * w / 2], [0, scale, y - scale * h / 2]])
    out = (frame.shape[1], frame.shape[0])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(one.cutout, None, fx=scale, fy=scale, interpolation=flags) if scale < 1 else one.cutout
    mask = cv2.resize(one.mask, (small.shape[1], small.shape[0]), interpolation=flags)
    if scale < 1:
        matrix[:, :2] = np.eye(2)
    cover = cv2.warpAffine(mask, matrix, out)[..., None]
    picture = cv2.warpAffine(small, matrix, out).astype(np.float32)
    frame += cover * (picture * light - frame)


def render_demo(folder: Path) -> Path:
    """Make the folder and render the clip into it; its path."""
    prepare(Outputs(folder))
    render(folder / "demo.mp4", overwrite=True)
    return folder / "demo.mp4"


def run_demo(
    engine: Engine, folder: Path, progress: Callable[[int, int | None], None]
) -> tuple[Labelled, list[tuple[str, float, float]]]:
    """Enrol and label the rendered clip through the very same path as ``facecam label``, in a gallery of its own.

    Returns:
        what labelling said, and who was seen from when to when (name or "unknown", seconds).
    """
    options = Outputs(folder, frozenset({VIDEO_COPY, JSONL, CSV}), overwrite=True)
    clip = folder / "demo.mp4"
    portrait = package_file(HOPPER[0], HOPPER[1])
    gallery_file = folder / "demo-gallery.db"
    for leftover in folder.glob("demo-gallery.db*"):
        leftover.unlink()
    with Gallery.open(gallery_file) as gallery:
        verdict = Enroller(engine, EnrolOptions()).photo(portrait, lambda digest: False)
        if verdict.sample is None:
            raise RuntimeError(f"the demo's portrait was refused: {verdict.kind}, {verdict.detail}")
        gallery.add(KNOWN, [verdict.sample])
        matcher = engine.matcher(gallery)
    done = label_video(Item(clip, VIDEO, "demo"), engine, matcher, options, progress)
    return done, _timeline(folder / "demo.timeline.csv")


def _timeline(path: Path) -> list[tuple[str, float, float]]:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return [(row["name"] or "unknown", float(row["start"]), float(row["end"])) for row in csv.DictReader(file)]
