"""Who a track is: what its views have shown, when they contradict each other, and which name that earns.

Knows vectors, qualities and names; neither pictures nor models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from facecam.people.match import one_each
from facecam.people.quality import FULL_SIZE, Quality
from facecam.people.records import Portrait
from facecam.values import NOBODY, Match
from facecam.vision.portrait import Cutting
from facecam.vision.track import Track

#: Frames from one embedding of a track to the next while nobody is named, and once somebody is.
EMBED_UNSURE: Final = (3, 3, 3, 6, 12, 12, 24)
EMBED_SURE: Final = 45
#: The same while nobody is named, where the word is said at the end, over all that was seen: views that are further
#: apart tell more, and each costs as much.
EMBED_PATIENT: Final = (3, 6, 12, 24)
#: A face that nobody resembles after so many embeddings, one of them good, is looked at as seldom as a named one.
STRANGER_VECTORS: Final = 5
#: The same where the word is said at the end, for faces that are as far from everybody as a denial takes
#: (`Likeness.denial`): hardly any photo of somebody enrolled is, most strangers are (`python -m benchmarks.denial`).
STRANGER_PATIENT: Final = 2
#: A face without a name that has grown by so much since it was best seen is worth another look, until it is so large
#: that more pixels tell no more.
GROWN: Final = 1.4
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


@dataclass(slots=True)
class Evidence:
    """What a track has shown of who it is: the quality-weighted sum of its unit vectors.

    Attributes:
        total: float64, D; weight: sum of the weights; count: number of vectors.
        best: highest quality so far; pixels: side of the largest face.
        next_frame: index from which another embedding is worth it.
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
    pixels: float = 0.0
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


class Identities:
    """Collects the evidence of the tracks of one source and says who they are.

    Attributes:
        matcher: names vectors. likeness: how alike vectors of one face are.
        evidence: by track id, of live tracks and of ended ones until `forget`.
        now: time of the frame that is looked at, seconds.
        patient: whether nobody asks who they are before the end.
    """

    def __init__(self, matcher: Matches, likeness: Likeness | None = None) -> None:
        self.matcher = matcher
        self.likeness = likeness or Likeness()
        self.evidence: dict[int, Evidence] = {}
        self.now = 0.0
        self.patient = False
        self._gone: deque[tuple[float, Evidence]] = deque(maxlen=32)

    def __getitem__(self, track_id: int) -> Evidence:
        """The evidence of a track, empty for a new one."""
        return self.evidence.setdefault(track_id, Evidence())

    def is_due(self, track_id: int, index: int, pixels: float) -> bool:
        """Whether a track's face, ``pixels`` wide in frame ``index``, is worth an embedding."""
        evidence = self[track_id]
        if index >= evidence.next_frame:
            return True
        return evidence.match.name is None and GROWN * evidence.pixels <= min(pixels, FULL_SIZE)

    def learn(self, track_id: int, vector: NDArray[np.float32], quality: Quality, index: int) -> bool:
        """Take a vector (float32, D, norm 1) of frame ``index``; False when doubts outweigh: it is somebody else."""
        evidence = self.evidence[track_id]
        evidence.pixels = max(evidence.pixels, quality.pixels)
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
            evidence.since = self.now
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
        while self._gone and self.now - self._gone[0][0] > RETURN_SECONDS:
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
        gaps = EMBED_PATIENT if self.patient else EMBED_UNSURE
        gap = gaps[min(evidence.count, len(gaps)) - 1]
        if self._resembles_nobody(evidence):
            gap = EMBED_SURE if evidence.best >= DENIAL_QUALITY else max(gap, gaps[-1])
        elif evidence.decided and evidence.match.name is not None:
            gap = EMBED_SURE
        evidence.next_frame = index + gap

    def _resembles_nobody(self, evidence: Evidence) -> bool:
        """Whether a track was seen so often, and is so far from everybody, that looking soon again is in vain."""
        enough, far = STRANGER_VECTORS, self.likeness.doubt
        if self.patient:
            enough, far = STRANGER_PATIENT, self.likeness.denial
        return evidence.match.name is None and evidence.count >= enough and (evidence.match.similarity or 0.0) < far

    def part(self, before: int, after: int, index: int) -> None:
        """A track's face became another's, which is ``after`` from now on and keeps the vectors that told so."""
        doubts, self.evidence[before].doubts = self.evidence[before].doubts, []
        fresh = self.evidence[after] = Evidence(pixels=self.evidence[before].pixels)
        for vector, quality in doubts:
            fresh.add(vector, quality)
        self._judge(fresh, index)

    def identity(self, track_id: int) -> tuple[Match, bool]:
        """The answer for a track so far, and whether it is decided."""
        evidence = self.evidence.get(track_id)
        return (evidence.match, evidence.decided) if evidence else (NOBODY, False)

    def jointly(self, tracks: Sequence[Track], matches: Sequence[Match]) -> list[Match]:
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
            self._gone.append((self.now, evidence))
        return evidence

    def restart(self, matcher: Matches) -> None:
        """Go on with a changed gallery: every track is matched again from the evidence it has."""
        self.matcher = matcher
        for evidence in self.evidence.values():
            evidence.others.clear()
            if evidence.count:
                evidence.match = matcher.match(evidence.vector[None])[0]
