"""Looking at whole frames: where one shot ends, and which levels of the pyramid are searched when.

Nothing here depends on tracks. So the frames of a file are searched by a thread of its own (`scan_ahead`), some
frames ahead of whoever follows faces, embeds and matches, with the same outcome.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.settings import Settings, min_face_pixels
from facecam.values import Face, Frame, Image
from facecam.video.ahead import ReadAhead
from facecam.vision.detect import Detector

#: Two thumbnails belong to different shots when they differ by this much in the mean (0 to 255) and hardly
#: correlate. Measured on the development clip: neighbours of one shot correlate by 0.53 and more, across
#: its cuts by 0.20 and less. Light that goes on or off changes the difference, not the correlation.
CUT_DIFFERENCE: Final = 8.0
CUT_CORRELATION: Final = 0.4
CUT_DROP: Final = 0.3
#: Frames between two looks at the whole frame at a pyramid level of this many megapixels or fewer: a level's price is
#: its area, so that dear levels come seldom.
SEARCH_FRAMES: Final = ((0.04, 9), (1.6, 18), (math.inf, 36))
#: In a shot every other of the dearer levels has its turns so many frames before the rest: a face shows at neighbours,
#: too, so that it has two chances in the same time.
EARLY: Final = 9
#: The picture is compared with what it was when it was last searched, in cells: so many to the smallest face, each
#: this many pixels wide. A cell whose mean changed by less than this many grey levels shows what it showed (grain of
#: three levels moves the mean of 8 x 8 pixels by 0.4, a face of that size some cells by far more).
CELLS: Final = 5
CELL_PIXELS: Final = (2, 16)
CHANGE: Final = 6.0
#: Every so often a level is searched whole all the same: a face that was missed has another chance by the grain alone.
WHOLE: Final = 8
#: Where a face was found, searches look so often again: one that is hardly seen is found and missed in turn.
LIVELY: Final = 4
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


class Stillness:
    """Which parts of the picture show what they showed when they were last searched, level by level.

    Where nothing changed a search would find what it found. Faces are looked for again all the same: a track that was
    lost needs them.
    """

    def __init__(self, width: int, height: int, min_face: float, levels: int) -> None:
        """For frames of a size; min_face: pixels. Until `searched` says so, nothing is known of any level."""
        cell = min(max(min_face / CELLS, CELL_PIXELS[0]), CELL_PIXELS[1])
        self._size = max(1, round(width / cell)), max(1, round(height / cell))
        self._cell = width / self._size[0], height / self._size[1]
        self._known: list[NDArray[np.float32] | None] = [None] * levels
        self._lively = np.zeros((levels, *self._size[::-1]), np.uint8)
        self._partly = [0] * levels

    def cells(self, image: Image) -> NDArray[np.float32]:
        """The mean grey of each cell of a picture (BGR uint8): float32, rows x columns, 0 to 255."""
        small = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)

    def changed(self, cells: NDArray[np.float32], due: Sequence[int]) -> NDArray[np.uint8] | None:
        """1 for each cell that is to be searched at those levels, else 0; None: the whole picture is."""
        if self._partly[min(due)] >= WHOLE - 1:  # that of the dearest: who comes along waits for a turn of its own
            return None
        changed = np.zeros(cells.shape, np.uint8)
        for i in due:
            known = self._known[i]
            if known is None:
                return None
            changed |= (np.abs(cells - known) >= CHANGE) | (self._lively[i] > 0)
        return changed

    def searched(
        self, cells: NDArray[np.float32], due: Sequence[int], changed: NDArray[np.uint8] | None, found: Iterable[Face]
    ) -> None:
        """Those levels were searched, all of them or where it changed; faces were found."""
        lively = np.zeros(cells.shape, np.uint8)
        for face in found:
            x, y, w, h = face.box
            columns = slice(max(0, int(x / self._cell[0])), max(0, math.ceil((x + w) / self._cell[0])))
            lively[max(0, int(y / self._cell[1])) : max(0, math.ceil((y + h) / self._cell[1])), columns] = LIVELY
        for i in due:
            self._lively[i] -= self._lively[i] > 0
            np.maximum(self._lively[i], lively, out=self._lively[i])
            known = self._known[i]
            if changed is None or known is None:
                known, self._partly[i] = cells.copy(), 0
            else:
                known[changed > 0] = cells[changed > 0]
                self._partly[i] += 1
            self._known[i] = known


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
        self._still = Stillness(1, 1, 1, 0)
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
            self._begin()
        found: list[Face] | None = None
        if frame.index >= self._next or cut:
            self._next = frame.index + self._settings.detect_every
            if due := self._due(frame.index):
                with self.timing.stage("search"):
                    found = self._search(frame.image, due)
                self._note(due, frame.index)
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
        self._begin()

    def _note(self, due: Sequence[int], index: int) -> None:
        """Those levels were searched."""
        early = EARLY * PATIENCE if self.patient else EARLY
        for i in due:
            first = self._searched[i] == NEVER
            self._searched[i] = index - early if first and i % 2 and self._levels[i].gap > early else index

    def _begin(self) -> None:
        """Nothing is known of the shot that begins here."""
        self._searched = [NEVER] * len(self._levels)
        width, height = self._size
        self._still = Stillness(width, height, min_face_pixels(self._settings.min_face, height), len(self._levels))

    def _search(self, image: Image, due: Sequence[int]) -> list[Face] | None:
        """Faces of some levels; None where the picture shows what it showed, and no face was there."""
        cells = self._still.cells(image)
        changed = self._still.changed(cells, due)
        found: list[Face] | None = None
        if changed is None or changed.any():
            found = self._detector.detect_levels(image, [self._levels[i].scale for i in due], changed)
        self._still.searched(cells, due, changed, found or [])
        return found

    def _due(self, index: int) -> list[int]:
        """Levels whose time has come."""
        return [i for i, level in enumerate(self._levels) if index - self._searched[i] >= level.gap]


def frames_ahead(width: int, height: int) -> int:
    """How many frames of a size may wait, searched."""
    return max(6, min(AHEAD, AHEAD_BYTES * 2 // (3 * width * height)))


@contextmanager
def scan_ahead(frames: Iterable[Frame], scan: Scan, depth: int) -> Iterator[Iterator[Seen]]:
    """All frames, searched by a thread that is at most so many frames ahead; it asks for the frames, too."""
    seen = (scan.see(frame) for frame in frames)
    with contextlib.closing(ReadAhead(lambda: next(seen, None), depth, name="searching")) as reader:
        yield reader
