"""The way of a frame: detect, track, embed when worth it, match. The one module that sees all of the stages.

A `Recogniser` takes frames one after another and answers with sightings. Detection runs on some frames
only: near the known faces at their own scale, and level by level over the whole frame, cheap levels
often, dear ones seldom. Everything is scheduled by frame count, so that two runs over one file agree;
only a live source may tell it to work less.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.geometry import iou
from facecam.people.match import one_each
from facecam.people.quality import Quality, measure
from facecam.people.records import Portrait
from facecam.settings import Settings, min_face_pixels
from facecam.values import NOBODY, Face, Frame, Image, Match, Sighting
from facecam.vision.align import align
from facecam.vision.detect import WINDOW, Detector
from facecam.vision.embed import Embeds as Embeds
from facecam.vision.portrait import portrait
from facecam.vision.track import Track, Tracker

#: Two thumbnails belong to different shots when they differ by this much in the mean (0 to 255) and hardly
#: correlate. Measured on the development clip: neighbours of one shot correlate by 0.53 and more, across
#: its cuts by 0.20 and less. Light that goes on or off changes the difference, not the correlation.
CUT_DIFFERENCE: Final = 8.0
CUT_CORRELATION: Final = 0.4
CUT_DROP: Final = 0.3
#: Frames between two looks at the whole frame at a pyramid level of this many megapixels or fewer: a level's price is
#: its area, so that dear levels come seldom. Each number divides a later one: levels that are searched together help
#: each other (`MmodDetector.detect_levels`).
SEARCH_FRAMES: Final = ((0.04, 6), (0.16, 9), (1.2, 18), (math.inf, 36))
#: Index of the last search of a level that was not searched yet.
NEVER: Final = -(10**9)
#: Where faces are followed back to when they came (`archive.analysis`), a search may come this much more seldom.
PATIENCE: Final = 2
#: A believed face that was missed this often in a row is searched on the whole frame, at its size.
LOST_MISSES: Final = 2
#: Frames from one embedding of a track to the next while nobody is named, and once somebody is.
EMBED_UNSURE: Final = (3, 3, 6, 6, 12, 12, 24)
EMBED_SURE: Final = 45
#: A vector that agrees less than this with the track's own mean casts doubt (other views of one face in a clip
#: agree by 0.9 and more, two people by 0.8); this many doubts that agree with each other are another person.
DOUBT: Final = 0.86
DOUBTS: Final = 2
#: A view more turned than this (quality's frontal part) casts no doubt: it resembles nobody.
DOUBT_FRONTAL: Final = 0.55
#: A face that comes back within this time, and this alike, goes on with the evidence of the track that it left.
RETURN_SECONDS: Final = 5.0
RETURN_SIMILARITY: Final = 0.945
#: A hit that overlaps less than this with where the face was expected makes the track look again who it is.
JUMP_IOU: Final = 0.35
#: A track is named when this much evidence stands (sum of qualities), or at this many embeddings.
ENOUGH_QUALITY: Final = 0.9
ENOUGH_VECTORS: Final = 3


class Matches(Protocol):
    """Names vectors: `people.match.Matcher`, or `vision.classify.LabelMatcher`."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def threshold(self) -> float: ...

    def __len__(self) -> int: ...

    def match(self, vectors: NDArray[np.float32]) -> list[Match]: ...

    def similarity_to(self, name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two vectors of one face are, for an embedder; see DOUBT and RETURN_SIMILARITY.

    The defaults are the dlib embedder's, 0.08 below and 0.007 above its threshold.
    """

    doubt: float = DOUBT
    returns: float = RETURN_SIMILARITY


class LandmarkFinder(Protocol):
    """Gives faces their landmarks; leaves alone those that have some."""

    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]: ...


@dataclass(slots=True)
class Evidence:
    """What a track has shown of who it is: the quality-weighted sum of its unit vectors.

    Attributes:
        total: float64, D; weight: sum of the weights; count: number of vectors.
        best: highest quality so far; next_frame: index from which another embedding is worth it.
        match: the answer so far; decided: whether it may be shown.
        views: the latest vectors, float32, D each. portrait: the best picture, where strangers are remembered.
        since: time of the first vector, seconds.
        doubts: vectors with their qualities that do not look like the rest.
    """

    total: NDArray[np.float64] | None = None
    weight: float = 0.0
    count: int = 0
    best: float = 0.0
    next_frame: int = 0
    match: Match = NOBODY
    decided: bool = False
    portrait: Portrait | None = None
    since: float | None = None
    views: deque[NDArray[np.float32]] = field(default_factory=lambda: deque(maxlen=32))
    doubts: list[tuple[NDArray[np.float32], float]] = field(default_factory=list)

    def add(self, vector: NDArray[np.float32], quality: float) -> None:
        weight = quality**2
        scaled = weight * vector.astype(np.float64)
        self.total = scaled if self.total is None else self.total + scaled
        self.weight += weight
        self.best = max(self.best, quality)
        self.count += 1
        self.views.append(vector)

    @property
    def vector(self) -> NDArray[np.float32]:
        """float32, D, norm 1."""
        if self.total is None:
            raise ValueError("no evidence yet")
        unit: NDArray[np.float32] = (self.total / np.linalg.norm(self.total)).astype(np.float32)
        return unit


@dataclass(slots=True)
class Timing:
    """Seconds spent in each stage and how often the models ran."""

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


@dataclass(slots=True)
class Step:
    """What one frame brought.

    Attributes:
        looked: whether detection ran on it; cut: whether a new shot begins with it.
        ended: tracks that ended here.
    """

    looked: bool
    cut: bool
    ended: list[Track]


class Recogniser:
    """Runs the stages over the frames of one source.

    Attributes:
        tracker: the live tracks. evidence: by track id, of live tracks and of ended ones until `forget`.
        timing: where the time went. portraits: whether to keep each track's best picture.
        patient: whether whoever calls follows new faces back in time; searches are then rarer.
    """

    def __init__(
        self,
        detector: Detector,
        landmarker: LandmarkFinder,
        embedder: Embeds,
        matcher: Matches,
        settings: Settings,
        likeness: Likeness | None = None,
    ) -> None:
        self.detector = detector
        self.landmarker = landmarker
        self.embedder = embedder
        self.matcher = matcher
        self.settings = settings
        self.likeness = likeness or Likeness()
        self.tracker = Tracker()
        self.evidence: dict[int, Evidence] = {}
        self.timing = Timing()
        self.detect_every = settings.detect_every
        self.portraits = False
        self.patient = False
        self._cuts = CutTest()
        self._size = (0, 0)
        self._levels: list[tuple[float, int]] = []
        self._searched: list[int] = []
        self._next_look = 0
        self._gone: deque[tuple[float, Evidence]] = deque(maxlen=32)
        self._now = 0.0

    # --- one frame after another -------------------------------------------------------------------------

    def step(self, frame: Frame, cut: bool | None = None) -> Step:
        """Take the next frame: detect if it is due, track, embed what is worth it, match.

        Args:
            cut: whether a new shot began since the last frame taken; None tests it here, which is right
                only when no frame of the source is left out.
        """
        self._now = frame.time
        if cut is None:
            with self.timing.stage("cut"):
                cut = self._cuts.is_cut(frame)
        ended: list[Track] = []
        if (frame.width, frame.height) != self._size:
            self._plan(frame.width, frame.height)
            cut = cut or frame.index > 0
        if cut:
            ended = self.tracker.clear()
            self._searched = [NEVER] * len(self._levels)
        if frame.index < self._next_look and not cut:
            return Step(False, cut, ended)
        self._next_look = frame.index + self.detect_every
        ended += self._look(frame)
        ended += self._embed(frame)
        return Step(True, cut, ended)

    @property
    def reach(self) -> int:
        """The longest time between two searches of one level, frames; 0 before the first frame."""
        return max((gap for _, gap in self._levels), default=0)

    def _plan(self, width: int, height: int) -> None:
        """Choose the pyramid for a frame size and how often each level is searched."""
        self._size = (width, height)
        min_face = min_face_pixels(self.settings.min_face, height)
        self._levels = []
        for scale in self.detector.levels(width, height, min_face):
            area = width * height * scale * scale / 1e6
            gap = next(frames for limit, frames in SEARCH_FRAMES if area <= limit)
            self._levels.append((scale, gap * PATIENCE if self.patient else gap))
        self._searched = [NEVER] * len(self._levels)

    def _look(self, frame: Frame) -> list[Track]:
        with self.timing.stage("detect"):
            followed = self.detector.follow(frame.image, self.tracker.predict(frame.time))
            due = self._due(frame.index)
            found = []
            if due:
                found = self.detector.detect_levels(frame.image, [self._levels[i][0] for i in due])
                for i in due:
                    self._searched[i] = frame.index
            self.timing.detections += 1
        with self.timing.stage("track"):
            expected = {t.id: (t.predict(frame.time), t.misses) for t in self.tracker.tracks}
            ended = self.tracker.update(frame.index, frame.time, followed, found)
            for track in self.tracker.tracks:
                if track.misses == LOST_MISSES and track.confirmed:
                    self._lost(track)
                if track.id in expected and track.last == frame.index:
                    box, misses = expected[track.id]
                    if misses or track.measured is None or iou(box, track.measured.box) < JUMP_IOU:
                        self.evidence[track.id].next_frame = frame.index
            return ended

    def _due(self, index: int) -> list[int]:
        """Levels to search now: those whose time has come, and the one an octave below each, which guides it."""
        due = {i for i, (_, gap) in enumerate(self._levels) if index - self._searched[i] >= gap}
        due |= {i + 2 for i in due if i + 2 < len(self._levels)}
        return sorted(due)

    def _lost(self, track: Track) -> None:
        """Let the levels at which a face of this size shows best be searched at the next look."""
        best = sorted(range(len(self._levels)), key=lambda i: abs(math.log(self._levels[i][0] * track.box[2] / WINDOW)))
        for i in best[:2]:
            self._searched[i] = NEVER

    def _embed(self, frame: Frame) -> list[Track]:
        """Embed the faces that are worth it; returns tracks that proved to have changed the person."""
        tracks = []
        for track in self.tracker.tracks:
            evidence = self.evidence.setdefault(track.id, Evidence())
            if track.last == frame.index and frame.index >= evidence.next_frame:
                tracks.append(track)
        if not tracks:
            return []
        with self.timing.stage("align"):
            measured = [t.measured or Face(t.box, t.score) for t in tracks]
            faces = self.landmarker.locate(frame.image, measured)
            crops = [align(frame.image, face, self.embedder.template) for face in faces]
            qualities = [measure(crop, face) for crop, face in zip(crops, faces)]
        with self.timing.stage("embed"):
            vectors = self.embedder.embed(crops)
            self.timing.embeddings += len(crops)
        if self.portraits:
            for track, face, quality in zip(tracks, faces, qualities):
                if quality.overall > self.evidence[track.id].best:
                    self.evidence[track.id].portrait = portrait(frame.image, face, quality.overall)
        with self.timing.stage("match"):
            turned = [
                track
                for track, vector, quality in zip(tracks, vectors, qualities)
                if not self._learn(self.evidence[track.id], vector, quality, frame.index)
            ]
            return [self._split(track, frame.index) for track in turned]

    def _split(self, track: Track, index: int) -> Track:
        """End a track whose face became another person's; that one starts with the vectors that told so."""
        doubts = self.evidence[track.id].doubts
        self.evidence[track.id].doubts = []
        old = self.tracker.split(track)
        fresh = self.evidence[track.id] = Evidence()
        for vector, quality in doubts:
            fresh.add(vector, quality)
        self._judge(fresh, index)
        return old

    def _learn(self, evidence: Evidence, vector: NDArray[np.float32], quality: Quality, index: int) -> bool:
        """Take a vector; False when the doubts have come to outweigh: this is somebody else."""
        if evidence.count and float(evidence.vector @ vector) < self.likeness.doubt:
            if quality.frontal < DOUBT_FRONTAL:
                evidence.next_frame = index + EMBED_UNSURE[-1]  # a head that turned away says neither yes nor no
                return True
            evidence.doubts.append((vector, quality.overall))
            evidence.next_frame = index + 1
            recent = [v for v, _ in evidence.doubts[-DOUBTS:]]
            return len(recent) < DOUBTS or any(float(recent[0] @ v) < self.likeness.doubt for v in recent[1:])
        evidence.doubts.clear()
        if not evidence.count:
            evidence.since = self._now
            self._remember(evidence, vector)
        evidence.add(vector, quality.overall)
        self._judge(evidence, index)
        return True

    def _remember(self, evidence: Evidence, vector: NDArray[np.float32]) -> None:
        """A face that left some seconds ago and is back keeps what was known of it."""
        while self._gone and self._now - self._gone[0][0] > RETURN_SECONDS:
            self._gone.popleft()
        likeness = [float(old.vector @ vector) for _, old in self._gone]
        if likeness and max(likeness) >= self.likeness.returns:
            index = likeness.index(max(likeness))
            old = self._gone[index][1]
            del self._gone[index]
            evidence.total, evidence.weight = old.total, old.weight
            evidence.best, evidence.count, evidence.decided = old.best, old.count, old.decided

    def _judge(self, evidence: Evidence, index: int) -> None:
        evidence.match = self.matcher.match(evidence.vector[None])[0]
        evidence.decided = evidence.decided or evidence.weight >= ENOUGH_QUALITY**2 or evidence.count >= ENOUGH_VECTORS
        sure = evidence.decided and evidence.match.name is not None
        gap = EMBED_SURE if sure else EMBED_UNSURE[min(evidence.count, len(EMBED_UNSURE)) - 1]
        evidence.next_frame = index + gap

    # --- answers -----------------------------------------------------------------------------------------

    def identity(self, track_id: int) -> tuple[Match, bool]:
        """The answer for a track so far, and whether it is decided."""
        evidence = self.evidence.get(track_id)
        return (evidence.match, evidence.decided) if evidence else (NOBODY, False)

    def sightings(self, at: float) -> list[Sighting]:
        """The live, believed tracks as they should look at a time (seconds): what a live view draws."""
        shown = [track for track in self.tracker.tracks if track.confirmed and track.misses <= 1]
        answers = [self.identity(track.id) for track in shown]
        matches = one_each([match if decided else NOBODY for match, decided in answers])
        return [
            Sighting(track.id, Face(track.predict(at), track.score), match, decided)
            for track, match, (_, decided) in zip(shown, matches, answers)
        ]

    def forget(self, track_id: int) -> Evidence | None:
        """Drop a track's evidence (and hand it over): a day of video must not fill the memory.

        For some seconds it is still known, should the face come back.
        """
        evidence = self.evidence.pop(track_id, None)
        if evidence is not None and evidence.count:
            self._gone.append((self._now, evidence))
        return evidence

    def restart(self, matcher: Matches) -> None:
        """Go on with a changed gallery: every track is matched again from the evidence it has."""
        self.matcher = matcher
        for evidence in self.evidence.values():
            if evidence.count:
                evidence.match = matcher.match(evidence.vector[None])[0]
