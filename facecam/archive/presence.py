"""Who was seen when in one file, as plain values: what all written outputs are made from.

Nothing here knows of models or pixels, so a run, a resumed run and a relabelling from the index give the
same outputs: each builds `FileSeen` values and hands them to the writers:

    pictures = {part.track: thumbnail(part.portrait) for part in parts if part.portrait}     # crops
    seen = FileSeen(source, VIDEO, path, of_rows(rows, unknown, pictures), shown, duration=info.duration)
    write_vtt(file, seen.appearances)                                                        # vtt, a file
    write_crops(output_dir, item.stem, [(appearance, portrait.image), ...])                  # crops, a file
    write_sidecar(photo, seen.appearances)                                                   # xmp, a photo
    write_report(output_dir / REPORT, all_seen, failures)                                    # html, a run
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from facecam.values import Box, Interval

#: Two appearances of one person this near to each other (seconds) are told as one.
JOIN_GAP: Final = 1.0


@dataclass(frozen=True, slots=True)
class Appearance:
    """One track of a video, or one face of a photo.

    Attributes:
        track: id of the track; of a photo's face its number from the left, from 1.
        name: the person; None for an unknown one. unknown: their number, where one was given.
        start, end: seconds from the video's first frame; 0 and 0 in a photo.
        similarity: highest of the track, to the person named.
        box: of a photo's face, pixels of the upright picture; None in a video.
        picture: small JPEG or PNG of the face (`crops.thumbnail`); None without one.
    """

    track: int
    name: str | None
    unknown: int | None
    start: float = 0.0
    end: float = 0.0
    similarity: float | None = None
    box: Box | None = None
    picture: bytes | None = field(default=None, repr=False)

    @property
    def who(self) -> Who:
        """Whom the writers count this appearance to."""
        return self.name, None if self.name is not None else self.unknown


#: A person: a name and None, or None and the number of an unknown one; (None, None) is whoever has neither.
Who = tuple[str | None, int | None]


def called(who: Who) -> str:
    """How the outputs call somebody: the name, "Unknown 12", or "unknown"."""
    name, unknown = who
    return name if name is not None else "unknown" if unknown is None else f"Unknown {unknown}"


@dataclass(frozen=True, slots=True)
class FileSeen:
    """One input file and who was seen in it.

    Attributes:
        source: as the other outputs name it.
        kind: "video" or "photo" (`archive.inputs`).
        path: of the input. shown: its labelled copy, where one was written.
        width, height: upright, pixels. duration: of a video, seconds; None where unknown.
        damaged: damaged packets or missing frames.
    """

    source: str
    kind: str
    path: Path
    appearances: Sequence[Appearance]
    shown: Path | None = None
    width: int = 0
    height: int = 0
    duration: float | None = None
    damaged: int = 0


def of_rows(
    rows: Iterable[Interval], unknown: Mapping[int, int | None], pictures: Mapping[int, bytes] | None = None
) -> list[Appearance]:
    """The appearances of a video.

    Args:
        rows: of timeline.csv (`report.Timeline.intervals`).
        unknown: track -> number of the unknown person. pictures: track -> small picture.
    """
    pictures = pictures or {}
    return [
        Appearance(
            row.track,
            row.name,
            unknown.get(row.track) if row.name is None else None,
            row.start,
            row.end,
            row.similarity_max,
            None,
            pictures.get(row.track),
        )
        for row in rows
    ]


def of_faces(faces: Iterable[Mapping[str, Any]], pictures: Sequence[bytes | None] = ()) -> list[Appearance]:
    """The appearances of a photo.

    Args:
        faces: as they stand in photos.sightings.jsonl (`report.face_fields`).
        pictures: a small picture of each, in the same order.
    """
    found = []
    for number, face in enumerate(faces):
        x, y, w, h = face["box"]
        picture = pictures[number] if number < len(pictures) else None
        name, unknown = face["name"], face["unknown"]
        found.append(
            Appearance(
                number + 1, name, unknown if name is None else None, 0.0, 0.0, face["similarity"], (x, y, w, h), picture
            )
        )
    return found


@dataclass(slots=True)
class Span:
    """A stretch in which one person was there, joined from one or more appearances."""

    start: float
    end: float
    similarity: float | None = None

    @property
    def duration(self) -> float:
        return self.end - self.start


def joined(appearances: Iterable[Appearance], gap: float = JOIN_GAP) -> dict[Who, list[Span]]:
    """Who -> stretches of time without overlap, in order; people in order of appearance.

    Args:
        gap: appearances of one person no further apart than this, seconds, become one. Strangers without a
            number are not known to be the same, so of them only what overlaps is joined.
    """
    spans: dict[Who, list[Span]] = {}
    for seen in sorted(appearances, key=lambda a: (a.start, a.end, a.track)):
        mine = spans.setdefault(seen.who, [])
        near = gap if seen.who != (None, None) else 0.0
        if mine and seen.start <= mine[-1].end + near:
            last = mine[-1]
            last.end = max(last.end, seen.end)
            if seen.similarity is not None:
                last.similarity = max(seen.similarity, last.similarity or seen.similarity)
        else:
            mine.append(Span(seen.start, seen.end, seen.similarity))
    return spans


def together(spans: Mapping[Who, Sequence[Span]]) -> dict[tuple[Who, Who], float]:
    """Seconds for which two people were there at the same time, for each pair with any.

    Args:
        spans: of each person in order and without overlap (`joined`).
    """
    order = {who: number for number, who in enumerate(spans)}
    starts = sorted((span.start, order[who], span.end, who) for who, mine in spans.items() for span in mine)
    pairs: dict[tuple[Who, Who], float] = {}
    there: list[tuple[float, Who]] = []
    for start, _, end, who in starts:
        there = [entry for entry in there if entry[0] > start]
        for until, other in there:
            pair = (other, who) if order[other] < order[who] else (who, other)
            pairs[pair] = pairs.get(pair, 0.0) + min(end, until) - start
        there.append((end, who))
    return pairs
