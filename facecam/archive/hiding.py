"""Boxes to blur: those of each frame, and those that a track will have soon or had a moment ago.

A face is in the picture for some frames before it is first found and after it was last found. What is drawn
from detections alone would show it there. So a track's first box counts for the frames before it, and its last
box for those after it, both where they are and moved on at the track's speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from facecam.archive.analysis import Record
from facecam.archive.naming import TrackResult
from facecam.values import Box

#: Frames before a track's first box and after its last one in which the place is blurred, too. A small face is
#: searched every 36 frames at most (`pipeline.SEARCH_FRAMES`).
BEFORE: Final = 36
AFTER: Final = 12


#: What --blur takes.
NONE: Final = "none"
UNKNOWN: Final = "unknown"
ALL: Final = "all"
BLUR: Final = (UNKNOWN, ALL, NONE)


#: Over so many frames of a track its speed is taken.
_PACE: Final = 6


@dataclass(slots=True)
class _Trail:
    """Where a track has just been: (frame, box), the newest last. begun: where it came from is to be told yet."""

    places: deque[tuple[int, Box]]
    begun: bool = True

    def at(self, index: int, share: float) -> list[Box]:
        """Where the face may be in another frame: where it was, and where it would be at its speed.

        Args:
            share: how much larger, see `_grown`.
        """
        first, last = self.places[0], self.places[-1]
        when, box = first if index < first[0] else last
        boxes = [_grown(box, share)]
        if last[0] > first[0]:
            ways = [_middle(last[1], side) - _middle(first[1], side) for side in (0, 1)]
            x, y = (way / (last[0] - first[0]) * (index - when) for way in ways)
            if max(abs(x) / box[2], abs(y) / box[3]) > share / 4:  # less is within the margin
                boxes.append(_grown((box[0] + x, box[1] + y, *box[2:]), share))
        return boxes


def with_neighbours(
    records: Iterable[Record], before: int = BEFORE, after: int = AFTER, cuts: Container[int] = ()
) -> Iterator[tuple[Record, list[tuple[int, Box]]]]:
    """Each record with (track, box) of tracks that are not in it but soon will be, or were a moment ago.

    The further away in time, the larger the box: the face may have moved. One that moves is looked for where it was
    found and where its speed would take it. Holds somewhat more than ``before`` records at a time, whatever the length
    of the video.

    Args:
        cuts: frames with which a new shot begins; nobody is looked for in another shot.
    """
    waiting: deque[tuple[Record, list[tuple[int, Box]]]] = deque()
    trails: dict[int, _Trail] = {}
    shot = 0

    def tell(track: int) -> None:
        """Where a track came from; once, when its speed is known, or as well as it will be."""
        trail = trails[track]
        if not trail.begun:
            return
        trail.begun = False
        first = trail.places[0][0]
        for earlier, extra in waiting:
            if max(shot, first - before) <= earlier.index < first and all(face[0] != track for face in earlier.faces):
                extra += [(track, box) for box in trail.at(earlier.index, (first - earlier.index) / before)]

    for record in records:
        if record.index in cuts:
            for track in trails:
                tell(track)
            shot = record.index
            trails.clear()
        now = {track: box for track, box, _ in record.faces}
        extra: list[tuple[int, Box]] = []
        for track in [*trails]:
            newest = trails[track].places[-1][0]
            if track not in now:
                tell(track)
                if record.index - newest <= after:
                    extra += [(track, box) for box in trails[track].at(record.index, (record.index - newest) / after)]
                else:
                    del trails[track]
        for track, box in now.items():
            trail = trails.setdefault(track, _Trail(deque()))
            trail.places.append((record.index, box))
            while record.index - trail.places[0][0] >= _PACE:
                tell(track)
                trail.places.popleft()
        waiting.append((record, extra))
        if len(waiting) > before + _PACE:
            yield _sorted(*waiting.popleft())
    for track in trails:
        tell(track)
    for pair in waiting:
        yield _sorted(*pair)


def _sorted(record: Record, found: list[tuple[int, Box]]) -> tuple[Record, list[tuple[int, Box]]]:
    return record, sorted(found)


def _middle(box: Box, side: int) -> float:
    return box[side] + box[side + 2] / 2


def _grown(box: Box, share: float) -> Box:
    """The box, wider and higher by ``share`` of half its size on each side."""
    x, y, w, h = box
    return x - w * share / 4, y - h * share / 4, w * (1 + share / 2), h * (1 + share / 2)


def to_hide(
    which: str, record: Record, neighbours: Sequence[tuple[int, Box]], results: Mapping[int, TrackResult]
) -> list[Box]:
    """The boxes to blur in a frame; give each to `video.overlay.blur` before anything is drawn.

    Args:
        which: one of `BLUR`. UNKNOWN: everybody without a name, also what was not believed to be a face, since a
            face that is shown is worse than a blurred wall.
        neighbours: of this record (`with_neighbours`).
    """
    if which == NONE:
        return []
    places = [(track, box) for track, box, _ in record.faces] + list(neighbours)
    return [box for track, box in places if which == ALL or not _named(results.get(track))]


def _named(result: TrackResult | None) -> bool:
    return result is not None and result.believed and result.match.name is not None
