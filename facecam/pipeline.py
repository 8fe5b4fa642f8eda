"""The way of a frame: detect, track, embed when worth it, match. The one module that sees all of the stages.

A `Recogniser` takes frames one after another and answers with sightings. Detection runs on some frames
only: near the known faces at their own scale, and level by level over the whole frame (`facecam.scan`).
Everything is scheduled by frame count, so that two runs over one file agree; only a live source may leave
frames out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from facecam.geometry import iou
from facecam.people.match import one_each
from facecam.people.quality import Quality, measure
from facecam.people.records import Portrait
from facecam.scan import CutTest as CutTest
from facecam.scan import Level, Scan, Seen, Timing
from facecam.settings import Settings
from facecam.values import NOBODY, Face, Frame, Image, Match, Sighting
from facecam.vision.align import align
from facecam.vision.detect import WINDOW, Detector, merge
from facecam.vision.embed import Embeds as Embeds
from facecam.vision.portrait import Cutting
from facecam.vision.track import Track, Tracker

#: A believed face that was missed this often in a row is searched at its size about where it should be, so many of its
#: sizes to each side.
LOST_MISSES: Final = 2
LOST_REACH: Final = 3.0
#: Frames from one embedding of a track to the next while nobody is named, and once somebody is.
EMBED_UNSURE: Final = (3, 3, 3, 6, 12, 12, 24)
EMBED_SURE: Final = 45
#: A face that nobody resembles after so many embeddings, one of them good, is looked at as seldom as a named one.
STRANGER_VECTORS: Final = 5
#: A vector that agrees less than this with the track's own mean casts doubt (other views of one face in a clip
#: agree by 0.9 and more, two people by 0.8); this many doubts that agree with each other are another person.
DOUBT: Final = 0.86
DOUBTS: Final = 2
#: A view more turned than this (quality's frontal part) casts no doubt: it resembles nobody.
DOUBT_FRONTAL: Final = 0.55
#: A good view that agrees less than this both with its track's mean and with whom the track is named after casts doubt,
#: too. Measured on lfw_dev, a track of two views: of strangers who take it over 3 % pass now, 35 % passed the first
#: test alone; of 89 people's own other photos none fails, of blurred ones 3 %.
DENIAL: Final = 0.91
DENIAL_QUALITY: Final = 0.5
#: A face that comes back within this time, and this alike, goes on with the evidence of the track that it left.
RETURN_SECONDS: Final = 5.0
RETURN_SIMILARITY: Final = 0.945
#: A hit that overlaps less than this with where the face was expected makes the track look again who it is.
JUMP_IOU: Final = 0.35
#: After so many hits a track of a file rests while it is hit this near to
#: where it was expected (MMOD's answers jitter by a few per cent of the face, which leaves an overlap of 0.85) and
#: moves by less than this many of its sizes a second.
SETTLED_HITS: Final = 3
SETTLED_SPEED: Final = 1.0
SETTLED_IOU: Final = 0.7
#: So many looks of `detect_every` frames long it is then not looked for, unless another track's middle is within so
#: many of its sizes: that one would take its face.
REST: Final = 4
CROWDED: Final = 1.0
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
    """How alike two vectors of one face are, for an embedder; see DOUBT, DENIAL and RETURN_SIMILARITY.

    The defaults are the dlib embedder's, 0.08 and 0.028 below and 0.007 above its threshold.
    """

    doubt: float = DOUBT
    returns: float = RETURN_SIMILARITY
    denial: float = DENIAL


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
        views: the latest vectors, float32, D each. picture: cuts the best picture, where strangers are remembered.
        since: time of the first vector, seconds.
        doubts: vectors with their qualities that do not look like the rest.
        others: names of people who were seen beside this face, and how similar to them whoever bore the name was.
    """

    total: NDArray[np.float64] | None = None
    weight: float = 0.0
    count: int = 0
    best: float = 0.0
    next_frame: int = 0
    match: Match = NOBODY
    decided: bool = False
    picture: Cutting | None = None
    since: float | None = None
    views: deque[NDArray[np.float32]] = field(default_factory=lambda: deque(maxlen=32))
    doubts: list[tuple[NDArray[np.float32], float]] = field(default_factory=list)
    others: dict[str, float] = field(default_factory=dict)

    def add(self, vector: NDArray[np.float32], quality: float) -> None:
        weight = quality**2
        scaled = weight * vector.astype(np.float64)
        self.total = scaled if self.total is None else self.total + scaled
        self.weight += weight
        self.best = max(self.best, quality)
        self.count += 1
        self.views.append(vector)

    @property
    def portrait(self) -> Portrait | None:
        """The best picture, where strangers are remembered."""
        return self.picture.portrait if self.picture is not None else None

    @property
    def vector(self) -> NDArray[np.float32]:
        """float32, D, norm 1."""
        if self.total is None:
            raise ValueError("no evidence yet")
        unit: NDArray[np.float32] = (self.total / np.linalg.norm(self.total)).astype(np.float32)
        return unit


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
        tracker: the live tracks. evidence: by track id, of live tracks and of ended ones until `forget`.
        scan: looks at whole frames. timing: where the time went.
        portraits: whether to keep each track's best picture.
        patient: whether whoever calls follows faces back in time; then searches are rarer, and tracks that go on as
            expected rest.
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
        self.portraits = False
        self.scan = Scan(detector, settings, Timing())
        self._levels: tuple[Level, ...] = ()
        self._lost: list[Track] = []
        self._next_look = self._next_regular = 0
        self._gone: deque[tuple[float, Evidence]] = deque(maxlen=32)
        self._now = 0.0

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
        self.scan.patient = patient

    # --- one frame after another -------------------------------------------------------------------------

    def step(self, frame: Frame, cut: bool | None = None) -> Step:
        """Take the next frame: search it if it is due, and `take` it. See `Scan.see`."""
        return self.take(self.scan.see(frame, cut))

    def take(self, seen: Seen) -> Step:
        """Take the next frame, searched already: follow and track, embed what is worth it, match."""
        frame, cut = seen.frame, seen.cut
        self._now = frame.time
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
                found = merge([*found, *self._search_lost(frame)])
            followed: list[Face | None] = []
            awake = [i for i, track in enumerate(self.tracker.tracks) if track.rests <= frame.index]
            if awake:  # else nobody may need the picture converted
                boxes = self.tracker.predict(frame.time)
                sized = {k for k, i in enumerate(awake) if self._is_sized(self.tracker.tracks[i])}
                followed = [None] * len(boxes)
                for i, face in zip(awake, self.detector.follow(frame.image, [boxes[i] for i in awake], sized)):
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
                        self.evidence[track.id].next_frame = frame.index
            return ended, frozenset(moved)

    def _search_lost(self, frame: Frame) -> list[Face]:
        """Faces about those that were lost, of about their size."""
        lost, self._lost = self._lost, []
        found: list[Face] = []
        for track in lost:
            x, y, w, h = track.predict(frame.time)
            left, top = max(0, round(x - LOST_REACH * w)), max(0, round(y - LOST_REACH * h))
            part = frame.image[
                top : max(0, round(y + h + LOST_REACH * h)), left : max(0, round(x + w + LOST_REACH * w))
            ]
            if min(part.shape[:2]) > 0:
                faces = self.detector.detect_levels(part, self._scales_of(track))
                found += [face.shifted(left, top) for face in faces]
        return found

    def _scales_of(self, track: Track) -> list[float]:
        """The two levels at which a face of this size shows best, and those an octave below, which guide them."""
        size = track.box[2] / WINDOW
        best = sorted(range(len(self._levels)), key=lambda i: abs(math.log(self._levels[i].scale * size)))[:2]
        return [self._levels[i].scale for i in sorted({*best, *(i + 2 for i in best if i + 2 < len(self._levels))})]

    def _is_sized(self, track: Track) -> bool:
        """Whether a track's size need not be measured at the next look: that of a file is at every second one."""
        return self.patient and not track.misses and track.hits >= SETTLED_HITS and track.hits % 2 == 1

    def _rest(self, index: int, moved: frozenset[int]) -> None:
        """Let the tracks that were where they were expected rest, until they are to be embedded."""
        for track in self.tracker.tracks:
            slow = math.hypot(*track.speed) < SETTLED_SPEED * track.box[2]
            held = track.confirmed and track.last == index and track.hits >= SETTLED_HITS
            if held and slow and track.id not in moved and not self._crowded(track):
                rest = REST * self.settings.detect_every
                track.rests = min(index + rest, self.evidence[track.id].next_frame)

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
                    self.evidence[track.id].picture = Cutting.of(frame.image, face, quality.overall)
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
        if evidence.count and self._is_unlike(evidence, vector, quality):
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

    def _is_unlike(self, evidence: Evidence, vector: NDArray[np.float32], quality: Quality) -> bool:
        """Whether a view of a track is unlike what the track has shown, and unlike whom it is named after."""
        agreement, name = float(evidence.vector @ vector), evidence.match.name
        if agreement < self.likeness.doubt or agreement >= self.likeness.denial:
            return agreement < self.likeness.doubt
        if name is None or quality.overall < DENIAL_QUALITY or quality.frontal < DOUBT_FRONTAL:
            return False
        return float(self.matcher.similarity_to(name, vector[None])[0]) < self.likeness.denial

    def _remember(self, evidence: Evidence, vector: NDArray[np.float32]) -> None:
        """A face that left some seconds ago and is back keeps what was known of it."""
        while self._gone and self._now - self._gone[0][0] > RETURN_SECONDS:
            self._gone.popleft()
        likeness = [float(old.vector @ vector) for _, old in self._gone]
        if likeness and max(likeness) >= self.likeness.returns:
            index = likeness.index(max(likeness))
            old = self._gone[index][1]
            if old.match.name is not None and max(likeness) < self.matcher.threshold:
                return  # in a large gallery, or for a small risk, a name takes more
            del self._gone[index]
            evidence.total, evidence.weight = old.total, old.weight
            evidence.best, evidence.count, evidence.decided = old.best, old.count, old.decided
            evidence.others |= old.others

    def _judge(self, evidence: Evidence, index: int) -> None:
        evidence.match = self.matcher.match(evidence.vector[None])[0]
        evidence.decided = evidence.decided or evidence.weight >= ENOUGH_QUALITY**2 or evidence.count >= ENOUGH_VECTORS
        gap = EMBED_SURE if self._is_sure(evidence) else EMBED_UNSURE[min(evidence.count, len(EMBED_UNSURE)) - 1]
        evidence.next_frame = index + gap

    def _is_sure(self, evidence: Evidence) -> bool:
        """Whether a track has a name, or good views of it are far from everybody."""
        if not evidence.decided or evidence.match.name is not None:
            return evidence.decided
        seen = evidence.count >= STRANGER_VECTORS and evidence.best >= DENIAL_QUALITY
        return seen and (evidence.match.similarity or 0.0) < self.likeness.doubt

    # --- answers -----------------------------------------------------------------------------------------

    def identity(self, track_id: int) -> tuple[Match, bool]:
        """The answer for a track so far, and whether it is decided."""
        evidence = self.evidence.get(track_id)
        return (evidence.match, evidence.decided) if evidence else (NOBODY, False)

    def sightings(self, at: float) -> list[Sighting]:
        """The live, believed tracks as they should look at a time (seconds): what a live view draws."""
        shown = [track for track in self.tracker.tracks if track.confirmed and track.misses <= 1]
        answers = [self.identity(track.id) for track in shown]
        matches = self._jointly(shown, [match if decided else NOBODY for match, decided in answers])
        return [
            Sighting(track.id, Face(track.predict(at), track.score), match, decided)
            for track, match, (_, decided) in zip(shown, matches, answers)
        ]

    def _jointly(self, tracks: Sequence[Track], matches: Sequence[Match]) -> list[Match]:
        """Faces of one picture have different names; who was seen beside a person is not called so later, either."""
        free = []
        for track, match in zip(tracks, matches):
            lost = match.name is not None and (match.similarity or 0) <= self.evidence[track.id].others.get(
                match.name, -1
            )
            free.append(replace(match, name=None) if lost else match)
        result = one_each(free)
        for track, before, after in zip(tracks, free, result):
            if before.name is not None and after.name is None:
                bearer = max(match.similarity or 0.0 for match in free if match.name == before.name)
                self.evidence[track.id].others[before.name] = bearer
        return result

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
            evidence.others.clear()
            if evidence.count:
                evidence.match = matcher.match(evidence.vector[None])[0]
