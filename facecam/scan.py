"""Looking at whole frames: where one shot ends, and which levels of the pyramid are searched when.

Nothing here depends on tracks. So the frames of a file are searched by a thread of its own (`scan_ahead`), some
frames ahead of whoever follows faces, embeds and matches, with the same outcome.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.settings import Settings, min_face_pixels
from facecam.values import Face, Frame
from facecam.video.ahead import ReadAhead
from facecam.vision.detect import Detector

#: Two thumbnails belong to different shots when they differ by this much in the mean (0 to 255) and hardly
#: correlate. Measured on the development clip: neighbours of one shot correlate by 0.53 and more, across
#: its cuts by 0.20 and less. Light that goes on or off changes the difference, not the correlation.
CUT_DIFFERENCE: Final = 8.0
CUT_CORRELATION: Final = 0.4
CUT_DROP: Final = 0.3
#: Frames between two looks at the whole frame at a pyramid level of this many megapixels or fewer: a level's price is
#: its area, so that dear levels come seldom. Each number divides a later one: levels that are searched together help
#: each other (`MmodDetector.detect_levels`).
SEARCH_FRAMES: Final = ((0.04, 6), (0.16, 9), (1.6, 18), (math.inf, 36))
#: Index of the last search of a level that was not searched yet.
NEVER: Final = -(10**9)
#: Where faces are followed back to when they came (`archive.analysis`), a search may come this much more seldom.
PATIENCE: Final = 2
#: Frames that are searched ahead, at most: from one cut or search of the dear levels to the next there is little to do,
#: and at them much. Twelve cost a tenth of the rate of the development clip. And their size, bytes (1.5 a pixel).
AHEAD: Final = 48
AHEAD_BYTES: Final = 64_000_000


@dataclass(slots=True)
class Timing:
    """Seconds spent in each stage and how often the models ran. A stage is timed by one thread only."""

    seconds: dict[str, float] = field(default_factory=dict)
    detections: int = 0
    embeddings: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """One call of a stage; whoever wants the single calls overrides it (`facecam.bench`)."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class CutTest:
    """Says where one shot ends and the next begins, from the thumbnails of all frames."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual = 0.9

    def is_cut(self, frame: Frame) -> bool:
        """Whether a new shot begins with this frame; ask for every frame, in order."""
        luma = frame.luma.astype(np.float32)
        last, self._last = self._last, luma
        if last is None or last.shape != luma.shape:
            return last is not None
        if float(cv2.norm(luma, last, cv2.NORM_L1)) < CUT_DIFFERENCE * luma.size:
            self._usual += 0.1 * (0.95 - self._usual)
            return False
        here, before = luma - luma.mean(), last - last.mean()
        power = float(np.sqrt((here * here).sum() * (before * before).sum()))
        correlation = float((here * before).sum()) / power if power > 0 else 0.0
        cut = correlation < min(CUT_CORRELATION, self._usual - CUT_DROP)
        if not cut:
            self._usual += 0.1 * (correlation - self._usual)
        return cut


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the pyramid: its scale, and the frames between two searches of it."""

    scale: float
    gap: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame and what a look at the whole of it brought.

    Attributes:
        cut: whether a new shot begins with it.
        found: faces of the levels that were due; None: none was.
        levels: of a frame of this size, largest first.
    """

    frame: Frame
    cut: bool
    found: list[Face] | None
    levels: tuple[Level, ...]


class Scan:
    """Searches the frames of one source, level by level, each as often as its price allows.

    Attributes:
        patient: searches are rarer, since whoever calls follows new faces back in time. timing: where the time went.
    """

    def __init__(self, detector: Detector, settings: Settings, timing: Timing) -> None:
        self.timing = timing
        self.patient = False
        self._detector = detector
        self._settings = settings
        self._cuts = CutTest()
        self._size = (0, 0)
        self._levels: tuple[Level, ...] = ()
        self._searched: list[int] = []
        self._next = 0

    def see(self, frame: Frame, cut: bool | None = None) -> Seen:
        """Take the next frame.

        Args:
            cut: whether a new shot began since the last frame taken; None tests it here, which is right
                only when no frame of the source is left out.
        """
        if cut is None:
            with self.timing.stage("cut"):
                cut = self._cuts.is_cut(frame)
        if (frame.width, frame.height) != self._size:
            self._plan(frame.width, frame.height)
            cut = cut or frame.index > 0
        if cut:
            self._searched = [NEVER] * len(self._levels)
        found: list[Face] | None = None
        if frame.index >= self._next or cut:
            self._next = frame.index + self._settings.detect_every
            if due := self._due(frame.index):
                with self.timing.stage("search"):
                    found = self._detector.detect_levels(frame.image, [self._levels[i].scale for i in due])
                for i in due:
                    self._searched[i] = frame.index
        return Seen(frame, cut, found, self._levels)

    def _plan(self, width: int, height: int) -> None:
        """Choose the pyramid for a frame size and how often each level is searched."""
        self._size = (width, height)
        levels = []
        for scale in self._detector.levels(width, height, min_face_pixels(self._settings.min_face, height)):
            area = width * height * scale * scale / 1e6
            gap = next(frames for limit, frames in SEARCH_FRAMES if area <= limit)
            levels.append(Level(scale, gap * PATIENCE if self.patient else gap))
        self._levels = tuple(levels)
        self._searched = [NEVER] * len(levels)

    def _due(self, index: int) -> list[int]:
        """Levels to search now: those whose time has come, and the one an octave below each, which guides it."""
        due = {i for i, level in enumerate(self._levels) if index - self._searched[i] >= level.gap}
        return sorted(due | {i + 2 for i in due if i + 2 < len(self._levels)})


def frames_ahead(width: int, height: int) -> int:
    """How many frames of a size may wait, searched."""
    return max(6, min(AHEAD, AHEAD_BYTES * 2 // (3 * width * height)))


@contextmanager
def scan_ahead(frames: Iterable[Frame], scan: Scan, depth: int) -> Iterator[Iterator[Seen]]:
    """All frames, searched by a thread that is at most so many frames ahead; it asks for the frames, too."""
    seen = (scan.see(frame) for frame in frames)
    with contextlib.closing(ReadAhead(lambda: next(seen, None), depth, name="searching")) as reader:
        yield reader
