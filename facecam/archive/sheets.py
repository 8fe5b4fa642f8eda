"""From an index to what is written: the tracks of a file joined and named, and everything else gathered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from facecam.archive import report
from facecam.archive.index import ArchiveIndex, Entry, Seen
from facecam.archive.inputs import PHOTO
from facecam.archive.merge import Merged, merge
from facecam.archive.naming import Part, TrackResult, name_faces, name_tracks
from facecam.archive.pieces import Piece
from facecam.archive.sheet import Sheet, frames_of
from facecam.errors import NothingDecoded
from facecam.evidence import Likeness, Matches
from facecam.people.unknown import UnknownBook
from facecam.values import SourceInfo

if TYPE_CHECKING:
    from facecam.archive.tools import Tools


def merged(pieces: Collection[Piece], likeness: Likeness) -> Merged:
    """The tracks of a file out of its segments."""
    return merge(((piece.parts, piece.together, piece.edges) for piece in pieces), likeness)


def answer(index: ArchiveIndex, file: int, tools: Tools) -> None:
    """Name the tracks of a file whose segments are all done, and keep the answers. The book is not settled.

    Raises:
        NothingDecoded: none of them has a frame.
    """
    entry = index.get(file)
    engine, study = tools.engine, tools.study
    pieces = list(index.pieces(file, pictures=tools.book is not None and tools.book.remembers))
    if not any(piece.frames for piece in pieces):
        what = "video" if study.start is None and study.end is None else "stretch that was asked for"
        raise NothingDecoded(f"{entry.item.path}: no frame of the {what} can be decoded")
    joined = merged(pieces, engine.likeness)
    results = names(entry, joined, tools.matcher, tools.book, only=tools.only)
    believed = {track for track, result in results.items() if result.believed}
    info = dict(entry.info)
    if entry.item.kind == PHOTO:
        width, height = pieces[0].size
        info["source"] = {"name": entry.source, "width": width, "height": height}
        spans = {track: (0.0, 0.0, 1) for track in results}
        info["counts"] = {"frames": 1, "frames_with_faces": int(bool(results)), "faces": len(results)}
    else:
        source = SourceInfo(**info["source"])
        timeline = report.Timeline(source)
        for _, at, faces in frames_of((p.data, ids, p.frames) for p, ids in zip(pieces, joined.ids)):
            timeline.add(at - source.start_time, [track for track, _, _ in faces if track in believed])
        spans = timeline.spans()
        info["counts"] = {
            "frames": timeline.frames, "frames_with_faces": timeline.frames_with_faces, "faces": timeline.faces,
        }  # fmt: skip
    info["header"] = report.header(
        entry.source,
        None if entry.item.kind == PHOTO else SourceInfo(**info["source"]),
        engine,
        tools.matcher.threshold,
    )
    info["damaged"] = sum(piece.damaged for piece in pieces)
    info["timing"] = _timing(pieces)
    info["only"] = None if tools.only is None else sorted(tools.only)
    info["whole"] = study.start is None and study.end is None
    index.answer(file, seen_of(results, spans, {}), info)


def names(
    entry: Entry, joined: Merged, matcher: Matches, book: UnknownBook | None, **more: Any
) -> dict[int, TrackResult]:
    """Who the tracks of a file are; ``more`` as of `naming.name_tracks`."""
    parts = list(joined.parts.values())
    if entry.item.kind == PHOTO:
        return name_faces(parts, matcher, book, entry.source, **more)
    return name_tracks(parts, joined.together, matcher, book, entry.source, **more)


def seen_of(
    results: Mapping[int, TrackResult], spans: Mapping[int, tuple[float, float, int]], given: Mapping[int, str | None]
) -> dict[int, Seen]:
    """The rows of an index's answers."""
    return {
        track: Seen(result, *spans.get(track, (0.0, 0.0, 0)), given.get(track)) for track, result in results.items()
    }


def with_given(joined: Merged, seen: Mapping[int, Seen], names_there: Collection[str]) -> Merged:
    """The tracks with the names that the user gave to unknown people who are (still) in the gallery."""
    parts: dict[int, Part] = {}
    for track, part in joined.parts.items():
        name = seen[track].given if track in seen else None
        parts[track] = replace(part, given=name) if name in names_there else part
    return replace(joined, parts=parts)


def recall(index: ArchiveIndex, entry: Entry, book: UnknownBook, likeness: Likeness) -> None:
    """Let a book know the strangers of a file that was named before."""
    seen = index.answers(entry.id)
    if not any(s.result.unknown for s in seen.values()):
        return
    joined = merged(list(index.pieces(entry.id, data=False)), likeness)
    for track, part in sorted(joined.parts.items()):
        number = seen[track].result.unknown if track in seen else None
        if number is not None and part.total is not None:
            since = part.until if part.since is None else part.since
            vector = part.views[0] if entry.item.kind == PHOTO else part.vector
            book.recall(number, vector, part.weight, (since, part.until), source=entry.source)


def _timing(pieces: Collection[Piece]) -> dict[str, Any]:
    stages: dict[str, float] = {}
    for piece in pieces:
        for name, seconds in piece.stages.items():
            stages[name] = stages.get(name, 0.0) + seconds
    return {
        "seconds": round(sum(piece.seconds for piece in pieces), 3),
        "fps": None,
        "detections": sum(piece.detections for piece in pieces),
        "embeddings": sum(piece.embeddings for piece in pieces),
        "stages": {name: round(value, 3) for name, value in stages.items()},
    }


def sheet_of(
    index: ArchiveIndex, entry: Entry, likeness: Likeness, *, pictures: bool = False, data: bool = True
) -> Sheet:
    """Everything that the outputs of a named file are made of.

    Args:
        pictures: the context crops, too. data: the frames.
    """
    pieces = list(index.pieces(entry.id, data=data, views=False, pictures=pictures))
    joined = merged(pieces, likeness)
    seen = index.answers(entry.id)
    results = {track: s.result for track, s in seen.items()}
    return Sheet(
        entry.item.path,
        entry.item.kind,
        entry.source,
        entry.item.stem,
        SourceInfo(**entry.info["source"]),
        entry.info["header"],
        [
            (piece.data, ids, limits, piece.frames, bool(piece.damaged))
            for piece, ids, limits in zip(pieces, joined.ids, index.limits(entry.id))
        ],
        results,
        {track: (s.start, s.stop, s.frames) for track, s in seen.items() if s.result.believed},
        entry.info["counts"],
        {track: part.portrait.image for track, part in joined.parts.items() if part.portrait is not None},
        entry.info["timing"],
        entry.info["damaged"],
        entry.info["whole"],
        (max(piece.size[0] for piece in pieces), max(piece.size[1] for piece in pieces)),
        (entry.size, entry.modified),
    )
