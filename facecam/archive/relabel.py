"""Names anew, from what the index keeps: after somebody was enrolled, removed or named. No frame is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecam.archive.album import outputs_of, write_album
from facecam.archive.crops import rename_crops
from facecam.archive.index import FAILED, PENDING, WRITTEN, ArchiveIndex, Entry, Seen
from facecam.archive.inputs import PHOTO, VIDEO
from facecam.archive.merge import Merged
from facecam.archive.outputs import CROPS, VIDEO_COPY
from facecam.archive.sheets import merged, names, recall, seen_of, sheet_of, with_given
from facecam.archive.tools import Tools
from facecam.archive.writing import rewrite_texts
from facecam.archive.xmp import renew_sidecar
from facecam.errors import OutputError, PersonNotFound
from facecam.evidence import Likeness
from facecam.people.gallery import Gallery
from facecam.people.records import Added
from facecam.people.sightings import unknown_name
from facecam.people.strangers import UNJUDGED
from facecam.values import Sample, Template


@dataclass(frozen=True, slots=True)
class Relabelled:
    """What a relabelling did.

    Attributes:
        files: looked at. changed: of them, whose names are others now. skipped: analysed by another model.
        tracks: whose name or number is another one now. outputs: files written anew.
        stale: labelled copies that still show the old names; only `facecam label` can draw them anew.
        absent: folders of outputs that are not there (any more): names changed in the index alone.
        problems: a line for each output that could not be written anew; the next relabelling tries these again.
    """

    files: int
    changed: int
    skipped: int
    tracks: int
    outputs: tuple[Path, ...]
    stale: tuple[Path, ...]
    absent: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


def relabel(
    index: ArchiveIndex, tools: Tools, numbers: Mapping[int, int] | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Relabelled:  # fmt: skip
    """Name every track of the index by the gallery as it is, and write the texts of those files that change.

    Args:
        tools: the matcher of the gallery as it is, and a book; no model is run.
        numbers: unknown people who proved to be others: number -> number that they have now.

    Raises:
        OutputError: the index cannot be written.
    """
    entries = [entry for entry in index.entries() if entry.state == WRITTEN or "header" in entry.info]
    mine = [entry for entry in entries if entry.space == tools.engine.embedder.space]
    likeness, book = tools.engine.likeness, tools.book
    if book is not None:
        for entry in mine:
            recall(index, entry, book, likeness)
    tracks, changed = 0, 0
    written: list[Path] = []
    stale: list[Path] = []
    problems: list[str] = []
    absent: dict[Path, None] = {}
    late, renewed = set(), {}
    for done, entry in enumerate(mine, 1):
        differing, redrawn = _rename(index, entry, tools, numbers or {})
        tracks += differing
        changed += differing > 0
        # What an earlier relabelling that was broken off did not come to is written now.
        if entry.state == WRITTEN and (differing or entry.info.get(PENDING)):
            late.add(entry.id)
            folder = outputs_of(entry).folder
            try:
                if folder.is_dir():
                    files, old = _rewrite(index, index.get(entry.id), likeness)
                    old = old if redrawn or entry.info.get(PENDING) else []
                    written += files
                    stale += old
                    renewed[entry.id] = bool(old)
                else:
                    absent[folder] = None
            except OutputError as error:
                problems.append(str(error))
        progress(done, len(mine))
    if book is not None:
        book.settle_all()
    try:
        written += _albums(index, entries, late, likeness)
        index.note_renewed(renewed)
    except OutputError as error:
        problems.append(str(error))
    return Relabelled(
        len(mine), changed, len(entries) - len(mine), tracks, tuple(written), tuple(stale), tuple(absent),
        tuple(problems),
    )  # fmt: skip


def _rename(index: ArchiveIndex, entry: Entry, tools: Tools, numbers: Mapping[int, int]) -> tuple[int, bool]:
    """Name the tracks of a file; of how many the outputs tell something else now, and whether one looks different."""
    before = index.answers(entry.id)
    joined = merged(list(index.pieces(entry.id, data=False)), tools.engine.likeness)
    joined = with_given(joined, before, tools.matcher.names)
    known = {
        track: numbers.get(seen.result.unknown, seen.result.unknown)
        for track, seen in before.items()
        if seen.result.unknown is not None
    }
    results = names(entry, joined, tools.matcher, tools.book, known=known, only=entry.info.get("only"))
    spans = {track: (seen.start, seen.stop, seen.frames) for track, seen in before.items()}
    given = {part.track: part.given for part in joined.parts.values()}
    after = seen_of(results, spans, given)
    differing = sum(_told(before.get(track)) != _told(seen) for track, seen in after.items())
    redrawn = any(_drawn(before.get(track)) != _drawn(seen) for track, seen in after.items())
    threshold = entry.info["header"]["threshold"]
    if (
        differing
        or any(before.get(track) != seen for track, seen in after.items())
        or (threshold != tools.matcher.threshold)
    ):
        info = entry.info | {"header": entry.info["header"] | {"threshold": tools.matcher.threshold}}
        if differing and entry.state == WRITTEN:
            info[PENDING] = True
        index.answer(entry.id, after, info, entry.state)
    return differing, redrawn


def _drawn(seen: Seen | None) -> tuple[object, ...]:
    """What a labelled copy shows of a track (`video.overlay`): no runner-up, and of a stranger no similarity."""
    if seen is None:
        return ()
    match = seen.result.match
    known = match.name is not None and match.similarity is not None
    return match.name, seen.result.unknown, f"{match.similarity:.2f}" if known else ""


def _told(seen: Seen | None) -> tuple[object, ...]:
    """What the outputs tell of a track."""
    if seen is None:
        return ()
    match = seen.result.match
    rounded = tuple(
        None if v is None else round(v, 4) for v in (match.similarity, seen.result.mean, seen.result.highest)
    )
    return (
        match.name,
        seen.result.unknown,
        rounded,
        match.runner_up and (match.runner_up[0], round(match.runner_up[1], 4)),
    )


def _rewrite(index: ArchiveIndex, entry: Entry, likeness: Likeness) -> tuple[list[Path], list[Path]]:
    """Write a file's texts anew; these, and labelled copies that show old names."""
    sheet = sheet_of(index, entry, likeness)
    outputs = outputs_of(entry)
    written: list[Path] = []
    if entry.item.kind == VIDEO:
        written += rewrite_texts(sheet, outputs)
    elif outputs.xmp:
        sidecar = renew_sidecar(entry.item.path, sheet.appearances())
        written += [sidecar] if sidecar is not None else []
    if CROPS in outputs.write:
        written += rename_crops(outputs.folder, entry.item.stem, sheet.appearances())
    stale = [Path(name) for name in entry.outputs.get("files", []) if ".labelled." in Path(name).name]
    return written, stale if VIDEO_COPY in outputs.write else []


def _albums(index: ArchiveIndex, entries: list[Entry], changed: set[int], likeness: Likeness) -> list[Path]:
    """Write anew what was written for several files together, where one of them changed."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in entry.outputs.get("album", []):
            groups.setdefault(name, []).append(index.get(entry.id))
    written = []
    failures = [entry.problem for entry in index.entries() if entry.state == FAILED and entry.problem]
    for name, group in sorted(groups.items()):
        path = Path(name)
        touched = any(entry.id in changed and (entry.item.kind == PHOTO or path.suffix == ".html") for entry in group)
        if touched and path.parent.is_dir():
            write_album(index, group, likeness, [path], failures, overwrite=True)
            written.append(path)
    return written


# --- naming an unknown person of the index ---------------------------------------------------------------


def enrol_unknown(index: ArchiveIndex, gallery: Gallery, number: int, name: str) -> Added:
    """Make an unknown person of the index a person of the gallery; `relabel` then calls all their tracks so.

    Raises:
        PersonNotFound: nobody in the index has that number. UsageFault: the name cannot be one.
    """
    places = index.unknown_tracks(number)
    if not places:
        raise PersonNotFound(
            f"{unknown_name(number)} is not in {index.path.name}; facecam find --unknown --index lists those who are"
        )
    added = gallery.add(name, [_sample(index, places, number)])
    index.give(number, added.name)
    return added


def _sample(index: ArchiveIndex, places: list[tuple[int, int]], number: int) -> Sample:
    """A sample out of all tracks of an unknown person."""
    total: NDArray[np.float64] | None = None
    spaces = set()
    best = None
    joined: dict[int, Merged] = {}
    for file, track in places:
        entry = index.get(file)
        spaces.add(entry.space)
        if file not in joined:
            joined = {file: merged(list(index.pieces(file, data=False, pictures=True)), Likeness())}
        part = joined[file].parts.get(track)  # another embedder may join the tracks of segments otherwise
        if part is None or part.total is None:
            continue
        total = part.total if total is None else total + part.total
        if part.portrait is not None and (best is None or part.portrait.quality > best.quality):
            best = part.portrait
    if total is None or len(spaces) != 1:
        raise PersonNotFound(f"{unknown_name(number)} was seen by several models; run facecam label again with one")
    vector = (total / np.linalg.norm(total)).astype(np.float32)
    picture = (None, None, None) if best is None else (best.image, best.landmarks, best.scheme)
    return Sample(
        Template(vector, spaces.pop()),
        hashlib.sha256(vector.tobytes()).hexdigest(),
        f"{unknown_name(number)} of {index.path.name}",
        UNJUDGED if best is None else best.quality,
        *picture,
    )
