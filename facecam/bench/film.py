"""A film to measure on when nothing is at hand: one face that moves, 640 x 480, 30 frames a second."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np

from facecam.demo import HOPPER, actor, film
from facecam.errors import DependencyMissing
from facecam.values import Frame, SourceInfo
from facecam.video.base import Source
from facecam.video.container import FileSource
from facecam.video.sinks import VideoSink

SIZE: Final = (640, 480)
FPS: Final = 30
#: It is played again from its beginning when a run takes longer.
SECONDS: Final = 8


def render(path: Path) -> bool:
    """Write the film; False when it has no face, since the portraits (extra "demo") are not installed."""
    try:
        film(path, [actor(HOPPER, _place)], SIZE, SECONDS, FPS, overwrite=True)
    except DependencyMissing:
        _scenery(path)
        return False
    return True


def _place(t: float) -> tuple[float, float, float, float]:
    """A head before a camera: it moves about, comes nearer and leans back; the end fits the beginning."""
    u = 2 * math.pi * t / SECONDS
    return 320 + 90 * math.sin(u), 250 + 25 * math.sin(3 * u), 260 + 50 * math.sin(2 * u), 1.0


def _scenery(path: Path) -> None:
    """Grain on a gradient that moves: the price of a picture without faces."""
    width, height = SIZE
    rng = np.random.default_rng(0)
    grain = rng.integers(-8, 9, (height, width, 1), np.int16)
    slope = np.linspace(40, 200, width + 64, dtype=np.int16)[None, :, None]
    info = SourceInfo(path.stem, width, height, fps=FPS, duration=float(SECONDS), frames=FPS * SECONDS)
    with VideoSink(path, info, overwrite=True) as sink:
        for index in range(FPS * SECONDS):
            shift = round(32 + 31 * math.sin(2 * math.pi * index / (FPS * SECONDS)))
            picture = slope[:, shift : shift + width] + np.roll(grain, 7 * index, axis=1)
            sink.write(np.repeat(np.clip(picture, 0, 255).astype(np.uint8), 3, axis=2), index / FPS)


class Again(Source):
    """Plays a video file again and again, with indices and times that go on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = FileSource(path)
        self.info = self._file.info
        self._index, self._since, self._last = 0, 0.0, 0.0
        self._closed = False

    def read(self) -> Frame | None:
        frame = self._file.read()
        if frame is None and not self._closed:
            self._file.close()
            self._file = FileSource(self._path)
            self._since = self._last + 1 / FPS - self.info.start_time
            frame = self._file.read()
        if frame is None or self._closed:
            return None
        self._last = self._since + frame.time
        here, self._index = self._index, self._index + 1
        return Frame(
            here,
            self._last,
            size=(frame.width, frame.height),
            make_image=lambda: frame.image,
            make_luma=lambda: frame.luma,
        )

    def close(self) -> None:
        self._closed = True
        self._file.close()
