"""Questions to an archive index: where somebody appears, who looks like a photo, which strangers there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facecam.archive.index import ArchiveIndex, Entry, Seen
from facecam.archive.inputs import VIDEO
from facecam.archive.sheets import merged
from facecam.evidence import Likeness
from facecam.people.records import Portrait
from facecam.people.unknown import unknown_name


@dataclass(frozen=True, slots=True)
class Hit:
    """An appearance: file, track, from and to (seconds from the first frame; None in a photo), similarity."""

    source: str
    kind: str
    track: int
    name: str | None
    unknown: int | None
    start: float | None
    end: float | None
    similarity: float | None

    @property
    def who(self) -> str:
        return self.name or ("unknown" if self.unknown is None else unknown_name(self.unknown))


@dataclass(frozen=True, slots=True)
class Stranger:
    """An unknown person of the index: in how many files, in how many tracks and photos, how long (seconds)."""

    number: int
    files: int
    times: int
    seconds: float
    portrait: Portrait | None

    @property
    def name(self) -> str:
        return unknown_name(self.number)


def _hit(entry: Entry, track: int, seen: Seen, similarity: float | None = None) -> Hit:
    match, video = seen.result.match, entry.item.kind == VIDEO
    return Hit(
        entry.source,
        entry.item.kind,
        track,
        match.name,
        seen.result.unknown if match.name is None else None,
        seen.start if video else None,
        seen.stop if video else None,
        seen.result.match.similarity if similarity is None else similarity,
    )


def _believed(index: ArchiveIndex, entries: Iterable[Entry]) -> Iterator[tuple[Entry, dict[int, Seen]]]:
    for entry in entries:
        yield entry, {track: seen for track, seen in index.answers(entry.id).items() if seen.result.believed}


def find_name(index: ArchiveIndex, name: str) -> list[Hit]:
    """Every appearance of a person, in the order of the files; upper and lower case count."""
    hits = []
    for entry, tracks in _believed(index, index.entries()):
        mine = [(t, s) for t, s in tracks.items() if s.result.match.name == name]
        hits += [_hit(entry, t, s) for t, s in sorted(mine, key=lambda pair: (pair[1].start, pair[0]))]
    return hits


def find_number(index: ArchiveIndex, number: int) -> list[Hit]:
    """Every appearance of an unknown person."""
    hits = []
    for entry, tracks in _believed(index, index.entries()):
        mine = [(t, s) for t, s in tracks.items() if s.result.unknown == number]
        hits += [_hit(entry, t, s) for t, s in sorted(mine, key=lambda pair: (pair[1].start, pair[0]))]
    return hits


def find_alike(
    index: ArchiveIndex, vector: NDArray[np.float32], space: str, threshold: float, likeness: Likeness
) -> tuple[list[Hit], int]:
    """Who looks like a face, the most alike first; and how many files were analysed by another model.

    Args:
        vector: float32, D, norm 1. threshold: cosine similarity of a track's mean from which it is told.
    """
    hits, others = [], 0
    for entry, tracks in _believed(index, index.entries()):
        if entry.space != space:
            others += 1
            continue
        parts = merged(list(index.pieces(entry.id, data=False, views=False)), likeness).parts if tracks else {}
        for track, seen in tracks.items():
            part = parts.get(track)
            if part is not None and part.total is not None:
                similarity = float(part.vector @ vector)
                if similarity >= threshold:
                    hits.append(_hit(entry, track, seen, similarity))
    return sorted(hits, key=lambda hit: (-(hit.similarity or 0.0), hit.source, hit.track)), others


def strangers(index: ArchiveIndex) -> list[Stranger]:
    """The unknown people of the index, the most often seen first, with their best pictures."""
    tracks: dict[int, list[tuple[Entry, int, Seen]]] = {}
    for entry, seen in _believed(index, index.entries()):
        for track, one in seen.items():
            if one.result.unknown is not None:
                tracks.setdefault(one.result.unknown, []).append((entry, track, one))
    pictures = _pictures(index, tracks)
    found = [
        Stranger(
            number,
            len({entry.id for entry, _, _ in mine}),
            len(mine),
            round(sum(seen.stop - seen.start for _, _, seen in mine), 3),
            pictures.get(number),
        )
        for number, mine in tracks.items()
    ]
    return sorted(found, key=lambda who: (-who.times, who.number))


def _pictures(index: ArchiveIndex, tracks: dict[int, list[tuple[Entry, int, Seen]]]) -> dict[int, Portrait]:
    """The best picture of each unknown person; every file is read once."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for number, mine in tracks.items():
        for entry, track, _ in mine:
            wanted.setdefault(entry.id, []).append((track, number))
    best: dict[int, Portrait] = {}
    for file, pairs in sorted(wanted.items()):
        parts = merged(list(index.pieces(file, data=False, views=False, pictures=True)), Likeness()).parts
        for track, number in pairs:
            picture = parts[track].portrait if track in parts else None
            if picture is not None and (number not in best or picture.quality > best[number].quality):
                best[number] = picture
    return best
