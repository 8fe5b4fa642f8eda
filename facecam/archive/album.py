"""What is written once for all inputs of a run: the photos' sightings and table, and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from facecam.archive import report
from facecam.archive.crops import thumbnail
from facecam.archive.html import write_report
from facecam.archive.index import ArchiveIndex, Entry
from facecam.archive.inputs import PHOTO
from facecam.archive.outputs import VIDEO_COPY, Outputs
from facecam.archive.presence import FileSeen
from facecam.archive.sheet import Sheet
from facecam.archive.sheets import sheet_of
from facecam.archive.writing import targets
from facecam.evidence import Likeness
from facecam.video.atomic import atomic_text

#: Pictures that one person of a file gets at most, the longest appearances first.
PICTURES: Final = 4
#: Pictures of strangers without a number, of one file.
NAMELESS: Final = 40


def write_album(
    index: ArchiveIndex,
    entries: Sequence[Entry],
    likeness: Likeness,
    paths: Sequence[Path],
    failures: Sequence[str],
    *,
    overwrite: bool,
) -> None:
    """Write those of the files that belong to all inputs together.

    Args:
        entries: files that are labelled, in order. paths: of the files to write (`label.shared_outputs`).
        failures: a line for each input that could not be labelled.

    Raises:
        OutputError: one exists (without ``overwrite``) or cannot be written.
    """
    for path in paths:
        if path.name == "photos.sightings.jsonl":
            with atomic_text(path, overwrite=overwrite) as file:
                for line in _photo_lines(index, entries, likeness, len(failures)):
                    file.write(report.dump(line))
        elif path.name == "photos.csv":
            with atomic_text(path, overwrite=overwrite, newline="") as file:
                table = report.PhotoTable(file)
                for sheet in _photos(index, entries, likeness):
                    table.add(sheet.source, sheet.photo_line()["faces"])
        else:
            write_report(path, _files(index, entries, likeness), failures, overwrite=overwrite)


def _photos(index: ArchiveIndex, entries: Sequence[Entry], likeness: Likeness) -> Iterator[Sheet]:
    return (sheet_of(index, entry, likeness) for entry in entries if entry.item.kind == PHOTO)


def _photo_lines(
    index: ArchiveIndex, entries: Sequence[Entry], likeness: Likeness, failed: int
) -> Iterator[dict[str, Any]]:
    people: dict[str, int] = {}
    photos = unknown = 0
    seconds = 0.0
    for entry, sheet in zip((e for e in entries if e.item.kind == PHOTO), _photos(index, entries, likeness)):
        if not photos:
            yield sheet.header | {"source": "photos"}
        photos += 1
        seconds += entry.info["timing"]["seconds"] + entry.outputs.get("seconds", 0.0)
        line = sheet.photo_line()
        for face in line["faces"]:
            if face["name"] is None:
                unknown += 1
            else:
                people[face["name"]] = people.get(face["name"], 0) + 1
        yield line
    yield {
        "type": "summary",
        "photos": photos,
        "failed": failed,
        "faces": sum(people.values()) + unknown,
        "unknown": unknown,
        "people": dict(sorted(people.items())),
        "timing": {"seconds": round(seconds, 3), "fps": round(photos / seconds, 1) if seconds else None},
    }


def _files(index: ArchiveIndex, entries: Sequence[Entry], likeness: Likeness) -> Iterator[FileSeen]:
    for entry in entries:
        # Frames are not needed, but for the boxes of a photo.
        sheet = sheet_of(index, entry, likeness, pictures=True, data=entry.item.kind == PHOTO)
        yield file_seen(entry, sheet)


def outputs_of(entry: Entry) -> Outputs:
    """What was written for a file of the index."""
    return Outputs(
        Path(entry.outputs["folder"]), frozenset(entry.outputs["write"]), xmp=entry.outputs.get("xmp", False)
    )


def file_seen(entry: Entry, sheet: Sheet) -> FileSeen:
    """A file as the report shows it."""
    copy = targets(entry.item, outputs_of(entry)).get(VIDEO_COPY)
    return FileSeen(
        entry.source,
        entry.item.kind,
        entry.item.path,
        sheet.appearances(_thumbnails(sheet)),
        copy,
        sheet.info.width,
        sheet.info.height,
        sheet.info.duration,
        sheet.damaged,
    )


def _thumbnails(sheet: Sheet) -> dict[int, bytes]:
    """Small pictures of those who will be shown: making one takes a millisecond, and an hour has a thousand tracks."""
    taken: dict[Any, int] = {}
    small = {}
    for seen in sorted(sheet.appearances(), key=lambda a: (a.start - a.end, a.track)):
        picture = sheet.pictures.get(seen.track)
        most = NAMELESS if seen.name is None and seen.unknown is None else PICTURES
        if picture is not None and taken.get(seen.who, 0) < most:
            taken[seen.who] = taken.get(seen.who, 0) + 1
            small[seen.track] = thumbnail(picture)
    return small
