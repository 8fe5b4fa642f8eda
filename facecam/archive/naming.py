"""Tracks to names: what was seen of each track of a file, and who they are, settled for the whole file at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.evidence import Evidence, Matches
from facecam.people.match import one_each
from facecam.people.quality import STRANGER_QUALITY
from facecam.people.records import Portrait
from facecam.people.unknown import UnknownBook
from facecam.values import NOBODY, Match
from facecam.vision.track import Track

#: A track that ended before it was decided may still be named when its best crop was this good.
LATE_QUALITY: Final = 0.35
#: Below this quality (people.quality) a face in a photo stays unknown.
STILL_QUALITY: Final = 0.3


@dataclass(frozen=True, slots=True)
class TrackResult:
    """The final word on a track.

    Attributes:
        match: who it is; its similarity is that of the track's mean vector.
        believed: False for what proved to be no face.
        mean, highest: of the similarities of the single views to the candidate; None without one.
        unknown: number of an unknown person; None for a named one and where too little was seen.
    """

    match: Match
    believed: bool
    mean: float | None = None
    highest: float | None = None
    unknown: int | None = None


@dataclass(slots=True)
class Part:
    """What was seen of one track, or of a track's part in one segment of a long file. Plain values: it travels.

    Attributes:
        track: its id. believed: whether it proved to be a face.
        until: time of its last hit, seconds; since: of its first vector, None without vectors.
        total: weighted sum of its unit vectors, float64, D; None without. weight: the sum of the weights.
        count: number of vectors; -1: all were deleted (`erased`). best: highest quality.
        decided: whether it was looked at well enough.
        views: the latest vectors, float32, D each. portrait: its best picture, where these are kept.
        given: the name that the user gave to the unknown person that it is of.
    """

    track: int
    believed: bool
    until: float
    since: float | None = None
    total: NDArray[np.float64] | None = None
    weight: float = 0.0
    count: int = 0
    best: float = 0.0
    decided: bool = False
    views: list[NDArray[np.float32]] = field(default_factory=list)
    portrait: Portrait | None = None
    given: str | None = None

    @classmethod
    def of(cls, track: Track, evidence: Evidence | None) -> Part:
        """From a track that ended and its evidence."""
        if evidence is None:
            return cls(track.id, track.confirmed, track.last_time)
        return cls(
            track.id,
            track.confirmed,
            track.last_time,
            evidence.since,
            evidence.total,
            evidence.weight,
            evidence.count,
            evidence.best,
            evidence.decided,
            list(evidence.views),
            evidence.portrait,
        )

    @property
    def vector(self) -> NDArray[np.float32]:
        """float32, D, norm 1: the mean of its vectors."""
        if self.total is None:
            raise ValueError("no evidence yet")
        unit: NDArray[np.float32] = (self.total / np.linalg.norm(self.total)).astype(np.float32)
        return unit

    @property
    def erased(self) -> bool:
        """Whether its vectors and pictures were deleted (`archive.forget`)."""
        return self.count < 0

    @property
    def clear(self) -> bool:
        """Whether enough was seen for a name."""
        return self.count > 0 and (self.decided or self.best >= LATE_QUALITY)

    @property
    def numbered(self) -> bool:
        """Whether enough was seen to know an unknown person again."""
        return self.count > 0 and self.best >= STRANGER_QUALITY


def result_of(part: Part, matcher: Matches, only: Collection[str] | None = None) -> TrackResult:
    """Who a track is, seen alone.

    Args:
        only: names to give; others are told as if they were unknown. None: all.
    """
    if not part.clear:
        return TrackResult(NOBODY, part.believed)
    match = matcher.match(part.vector[None])[0]
    if part.given is not None and part.given in matcher.names:
        similarity = float(matcher.similarity_to(part.given, part.vector[None])[0])
        match = replace(match, name=part.given, candidate=part.given, similarity=similarity)
    if only is not None and match.name not in only:
        match = replace(match, name=None)
    if match.candidate is None:
        return TrackResult(match, part.believed)
    views = matcher.similarity_to(match.candidate, np.stack(part.views))
    return TrackResult(match, part.believed, float(views.mean()), float(views.max()))


def name_tracks(
    parts: Iterable[Part],
    together: Collection[tuple[int, int]],
    matcher: Matches,
    book: UnknownBook | None = None,
    source: str = "",
    *,
    only: Collection[str] | None = None,
    known: Mapping[int, int] | None = None,
) -> dict[int, TrackResult]:
    """Who the tracks of a file are.

    Args:
        together: pairs of tracks, the smaller id first, that show in one frame: they cannot be one person.
        book: numbers the unknown people, in order of appearance; the caller settles it. source: the file, for it.
        only: see `result_of`. known: numbers that tracks got before; they keep them while they are unknown.
    """
    parts = list(parts)
    results = {part.track: result_of(part, matcher, only) for part in parts}
    given = {part.track for part in parts if part.given is not None and part.given == results[part.track].match.name}
    _settle(results, together, given)
    strangers = [part for part in parts if part.numbered]
    for part in sorted(strangers, key=lambda p: (p.until if p.since is None else p.since, p.track)):
        result = results[part.track]
        if book is None or not result.believed or result.match.name is not None:
            continue
        if only is not None and result_of(part, matcher).match.name is not None:
            continue  # somebody who has a name is not an unknown person, asked for or not
        number = (known or {}).get(part.track)
        if number is None:
            span = (part.until if part.since is None else part.since, part.until)
            number = book.identify(
                part.vector, part.weight, span, part.portrait if book.remembers else None,
                source=source, track=part.track,
            )  # fmt: skip
        results[part.track] = replace(result, unknown=number)
    return results


def name_faces(
    parts: Iterable[Part],
    matcher: Matches,
    book: UnknownBook | None = None,
    source: str = "",
    *,
    only: Collection[str] | None = None,
    known: Mapping[int, int] | None = None,
) -> dict[int, TrackResult]:
    """As `name_tracks`, for the faces of a single picture, each with one view."""
    parts = list(parts)
    # A still gives one chance only: a crop that shows too little is not named.
    matches = []
    for part in parts:
        if part.erased:
            matches.append(NOBODY)
            continue
        match = matcher.match(part.views[0][None])[0]
        if part.given is not None and part.given in matcher.names:
            match = replace(match, name=part.given, candidate=part.given, similarity=2.0)  # the user said so
        elif part.best < STILL_QUALITY:
            match = replace(match, name=None)
        matches.append(match)
    results = {}
    for part, match in zip(parts, one_each(matches)):
        number = None
        if book is not None and match.name is None and part.best >= STRANGER_QUALITY:
            number = (known or {}).get(part.track)
            if number is None:
                picture = part.portrait if book.remembers else None
                number = book.identify(part.views[0], part.weight, (0.0, 1.0), picture, source=source, track=part.track)
        if only is not None and match.name not in only:
            match = replace(match, name=None)
        if part.given is not None and match.candidate == part.given:
            similarity = float(matcher.similarity_to(part.given, part.views[0][None])[0])
            match = replace(match, similarity=similarity)
        results[part.track] = TrackResult(match, True, match.similarity, match.similarity, number)
    return results


def _settle(results: dict[int, TrackResult], together: Collection[tuple[int, int]], given: Collection[int]) -> None:
    """Two tracks in one frame cannot be the same person: the more similar keeps the name."""

    def similarity(track: int) -> float:
        if track in given:
            return 2.0  # the user said so
        result = results[track]
        return (result.match.similarity or 0.0) if result.believed else -1.0

    for pair in sorted(together, key=lambda pair: (-max(similarity(t) for t in pair), pair)):
        first, second = sorted(pair, key=lambda t: (-similarity(t), t))
        name = results[first].match.name
        if name is not None and results[second].match.name == name and second not in given:
            loser = results[second]
            results[second] = replace(loser, match=replace(loser.match, name=None))
