"""The way of a frame: detect, track, embed when worth it, match. The one module that sees all of the stages.

A `Recogniser` takes frames one after another and answers with sightings. Detection runs on some frames
only: near the known faces at their own scale, and level by level over the whole frame (`facecam.scan`).
Everything is scheduled by frame count, so that two runs over one file agree; only a live source may leave
frames out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from facecam.evidence import Identities, Likeness, Matches
from facecam.geometry import iou
from facecam.people.quality import measure
from facecam.scan import CutTest as CutTest
from facecam.scan import Level, Scan, Seen, Timing
from facecam.settings import Settings
from facecam.values import NOBODY, Face, Frame, Image, Sighting
from facecam.vision.align import align
from facecam.vision.detect import WINDOW, Detector, merge
from facecam.vision.embed import Embeds as Embeds
from facecam.vision.portrait import Cutting
from facecam.vision.track import Track, Tracker, affinity

#: A believed face that was missed this often in a row is searched at its size about where it should be, so many of its
#: sizes to each side.
LOST_MISSES: Final = 2
LOST_REACH: Final = 3.0
#: The same for a face that is not where it should be after a rest, and may have turned about.
STRAY_REACH: Final = 1.0
#: A hit that overlaps less than this with where the face was expected makes the track look again who it is.
JUMP_IOU: Final = 0.35
#: After so many hits a track of a file rests while it is hit this near to
#: where it was expected (MMOD's answers jitter by a few per cent of the face, which leaves an overlap of 0.85) and
#: moves by less than this many of its sizes a second.
SETTLED_HITS: Final = 3
SETTLED_SPEED: Final = 1.0
SETTLED_IOU: Final = 0.7
#: Of so many looks at a settled face of a file one measures its size, too.
SIZED_FAST: Final = 2
SIZED_SLOW: Final = 4
#: So many looks of `detect_every` frames long it is then not looked for, unless another track's middle is within so
#: many of its sizes: that one would take its face.
REST: Final = 2
CROWDED: Final = 1.0


class LandmarkFinder(Protocol):
    """Gives faces their landmarks; leaves alone those that have some."""

    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]: ...


@dataclass(slots=True)
class Step:
    """What one frame brought.

    Attributes:
        looked: whether detection ran on it; cut: whether a new shot begins with it.
        ended: tracks that ended here.
        passed: whether detection was due, and left out since all tracks rest.
        moved: tracks that were not hit where they were expected.
    """

    looked: bool
    cut: bool
    ended: list[Track]
    passed: bool = False
    moved: frozenset[int] = frozenset()


class Recogniser:
    """Runs the stages over the frames of one source.

    Attributes:
        tracker: the live tracks. identities: who they are.
        scan: looks at whole frames. timing: where the time went.
        portraits: whether to keep each track's best picture.
        patient: whether whoever calls follows faces back in time, and names them at the end; then searches and first
            embeddings are rarer, and tracks that go on as expected rest.
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
        self.settings = settings
        self.tracker = Tracker()
        self.identities = Identities(matcher, likeness)
        self.portraits = False
        self.scan = Scan(detector, settings, Timing())
        self._levels: tuple[Level, ...] = ()
        self._lost: list[Track] = []
        self._next_look = self._next_regular = 0

    @property
    def timing(self) -> Timing:
        return self.scan.timing

    @timing.setter
    def timing(self, timing: Timing) -> None:
        self.scan.timing = timing

    @property
    def patient(self) -> bool:
        return self.scan.patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self.scan.patient = self.identities.patient = patient

    # --- one frame after another -------------------------------------------------------------------------

    def step(self, frame: Frame, cut: bool | None = None) -> Step:
        """Take the next frame: search it if it is due, and `take` it. See `Scan.see`."""
        return self.take(self.scan.see(frame, cut))

    def take(self, seen: Seen) -> Step:
        """Take the next frame, searched already: follow and track, embed what is worth it, match."""
        frame, cut = seen.frame, seen.cut
        self.identities.now = frame.time
        self._levels = seen.levels
        ended: list[Track] = []
        if cut:
            ended = self.tracker.clear()
            self._lost.clear()
        elif seen.found is None:
            if frame.index < self._next_look:
                return Step(False, cut, ended)
            if self.patient and not self._lost and all(t.rests > frame.index for t in self.tracker.tracks):
                self._next_look = self._next_regular = frame.index + self.settings.detect_every
                return Step(False, cut, ended, passed=True)
        else:
            for track in self.tracker.tracks:
                track.rests = 0
        if seen.found is not None or frame.index >= self._next_regular:
            self._next_regular = frame.index + self.settings.detect_every
        over, moved = self._look(frame, seen.found or [])
        # Of a new face nobody knows yet how fast it goes: a look at the next frame tells before it is out of reach.
        fresh = any(track.hits == 1 and track.last == frame.index for track in self.tracker.tracks)
        self._next_look = frame.index + 1 if fresh else self._next_regular
        ended += over
        ended += self._embed(frame)
        if self.patient:
            self._rest(frame.index, moved)
        return Step(True, cut, ended, moved=moved)

    @property
    def reach(self) -> int:
        """The longest time between two searches of one level, frames; 0 before the first frame."""
        return max((level.gap for level in self._levels), default=0)

    def _look(self, frame: Frame, found: list[Face]) -> tuple[list[Track], frozenset[int]]:
        """Follow the tracks; returns those that ended, and the numbers of those that moved otherwise than expected."""
        with self.timing.stage("detect"):
            if self._lost:
                lost, self._lost = self._lost, []
                near = [face for track in lost for face in self._search_near(frame, track, LOST_REACH)]
                found = merge([*found, *near])
            followed: list[Face | None] = []
            awake = [i for i, track in enumerate(self.tracker.tracks) if track.rests <= frame.index]
            if awake:  # else nobody may need the picture converted
                boxes = self.tracker.predict(frame.time)
                sized = {k for k, i in enumerate(awake) if self._is_sized(self.tracker.tracks[i])}
                followed = [None] * len(boxes)
                for i, face in zip(awake, self.detector.follow(frame.image, [boxes[i] for i in awake], sized)):
                    track = self.tracker.tracks[i]
                    rested = frame.index - track.last > self.settings.detect_every and not track.misses
                    if face is None and rested:
                        face = self._strayed(frame, track)
                    followed[i] = face
            self.timing.detections += 1
        with self.timing.stage("track"):
            expected = {t.id: (t.predict(frame.time), t.misses) for t in self.tracker.tracks}
            ended = self.tracker.update(frame.index, frame.time, followed, found)
            moved = set()
            for track in self.tracker.tracks:
                if track.misses == LOST_MISSES and track.confirmed:
                    self._lost.append(track)
                if track.id in expected and track.last == frame.index and track.measured is not None:
                    box, misses = expected[track.id]
                    agree = iou(box, track.measured.box)
                    if agree < SETTLED_IOU:
                        moved.add(track.id)
                    if misses or agree < JUMP_IOU:
                        self.identities[track.id].next_frame = frame.index
            return ended, frozenset(moved)

    def _search_near(self, frame: Frame, track: Track, reach: float) -> list[Face]:
        """Faces of about a track's size, at most so many of its sizes from where it should be."""
        x, y, w, h = track.predict(frame.time)
        left, top = max(0, round(x - reach * w)), max(0, round(y - reach * h))
        right, bottom = max(0, round(x + w + reach * w)), max(0, round(y + h + reach * h))
        part = frame.image[top:bottom, left:right]
        if min(part.shape[:2]) == 0:
            return []
        found = self.detector.detect_levels(part, self._scales_of(track))
        return [face.shifted(left, top) for face in found]

    def _strayed(self, frame: Frame, track: Track) -> Face | None:
        """The face of a track that had time to go further than following reaches: the nearest that is no other's."""
        others = [t.predict(frame.time) for t in self.tracker.tracks if t is not track]
        free = [f for f in self._search_near(frame, track, STRAY_REACH) if not any(affinity(f.box, o) for o in others)]
        x, y = Face(track.predict(frame.time), 0.0).centre
        return min(free, key=lambda face: math.hypot(face.centre[0] - x, face.centre[1] - y), default=None)

    def _scales_of(self, track: Track) -> list[float]:
        """The two levels at which a face of this size shows best."""
        size = track.box[2] / WINDOW
        return sorted((level.scale for level in self._levels), key=lambda scale: abs(math.log(scale * size)))[:2]

    def _is_sized(self, track: Track) -> bool:
        """Whether a track's size need not be measured at the next look: that of a file is at some only."""
        looks, every = track.hits - SETTLED_HITS, SIZED_SLOW if _is_slow(track) else SIZED_FAST
        return self.patient and not track.misses and looks >= 0 and (looks + 1) % every != 0

    def _rest(self, index: int, moved: frozenset[int]) -> None:
        """Let the tracks that were where they were expected rest, until they are to be embedded."""
        for track in self.tracker.tracks:
            held = track.confirmed and track.last == index and track.hits >= SETTLED_HITS
            if held and _is_slow(track) and track.id not in moved and not self._crowded(track):
                rest = REST * self.settings.detect_every
                track.rests = min(index + rest, self.identities[track.id].next_frame)

    def _crowded(self, track: Track) -> bool:
        """Whether another track is so near that one might be taken for the other while it rests."""
        x, y, w, h = track.box
        for other in self.tracker.tracks:
            gap = max(abs(x - other.box[0] + (w - other.box[2]) / 2), abs(y - other.box[1] + (h - other.box[3]) / 2))
            if other is not track and gap < CROWDED * max(w, other.box[2]):
                return True
        return False

    def _embed(self, frame: Frame) -> list[Track]:
        """Embed the faces that are worth it; returns tracks that proved to have changed the person."""
        tracks = []
        for track in self.tracker.tracks:
            if track.last == frame.index and self.identities.is_due(track.id, frame.index, max(track.box[2:])):
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
                if quality.overall > self.identities[track.id].best:
                    self.identities[track.id].picture = Cutting.of(frame.image, face, quality.overall)
        with self.timing.stage("match"):
            turned = [
                track
                for track, vector, quality in zip(tracks, vectors, qualities)
                if not self.identities.learn(track.id, vector, quality, frame.index)
            ]
            return [self._split(track, frame.index) for track in turned]

    def _split(self, track: Track, index: int) -> Track:
        """End a track whose face became another person's; that one starts with the vectors that told so."""
        before = track.id
        old = self.tracker.split(track)
        self.identities.part(before, track.id, index)
        return old

    def sightings(self, at: float) -> list[Sighting]:
        """The live, believed tracks as they should look at a time (seconds): what a live view draws."""
        shown = [track for track in self.tracker.tracks if track.confirmed and track.misses <= 1]
        answers = [self.identities.identity(track.id) for track in shown]
        matches = self.identities.jointly(shown, [match if decided else NOBODY for match, decided in answers])
        return [
            Sighting(track.id, Face(track.predict(at), track.score), match, decided)
            for track, match, (_, decided) in zip(shown, matches, answers)
        ]


def _is_slow(track: Track) -> bool:
    return math.hypot(*track.speed) < SETTLED_SPEED * track.box[2]
