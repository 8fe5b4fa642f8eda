"""Boxes to blur: those of each frame, and those that a track will have soon or had a moment ago.

A face is in the picture for some frames before it is first found and after it was last found. What is drawn
from detections alone would show it there. So a track's first box counts for the frames before it, and its last
box for those after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
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


def with_neighbours(
    records: Iterable[Record], before: int = BEFORE, after: int = AFTER, cuts: Container[int] = ()
) -> Iterator[tuple[Record, list[tuple[int, Box]]]]:
    """Each record with (track, box) of tracks that are not in it but soon will be, or were a moment ago.

    The further away in time, the larger the box: the face may have moved. Holds ``before`` records at a time,
    whatever the length of the video.

    Args:
        cuts: frames with which a new shot begins; nobody is looked for in another shot.
    """
    waiting: deque[tuple[Record, dict[int, Box]]] = deque()
    last: dict[int, tuple[int, Box]] = {}
    shot = 0
    for record in records:
        if record.index in cuts:
            shot = record.index
            last.clear()
        now = {track: box for track, box, _ in record.faces}
        for track in now.keys() - last.keys():
            for earlier, extra in waiting:
                distance = record.index - earlier.index
                if distance <= before and earlier.index >= shot and all(face[0] != track for face in earlier.faces):
                    extra.setdefault(track, _grown(now[track], distance / before))
        last = {track: entry for track, entry in last.items() if record.index - entry[0] <= after}
        extra = {
            track: _grown(box, (record.index - index) / after)
            for track, (index, box) in last.items()
            if track not in now
        }
        last |= {track: (record.index, box) for track, box in now.items()}
        waiting.append((record, extra))
        if len(waiting) > before:
            done, found = waiting.popleft()
            yield done, sorted(found.items())
    for done, found in waiting:
        yield done, sorted(found.items())


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
