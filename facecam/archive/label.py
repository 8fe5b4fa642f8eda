"""Labels files: a run over many, one video by itself, the people in one picture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facecam.archive.album import write_album
from facecam.archive.crew import Alone, Crew
from facecam.archive.index import WRITTEN, ArchiveIndex, Entry
from facecam.archive.inputs import PHOTO, PHOTOS, Item
from facecam.archive.labelled import Labelled
from facecam.archive.naming import name_faces
from facecam.archive.outputs import CSV, JSONL, Outputs
from facecam.archive.run import Run
from facecam.archive.study import look
from facecam.archive.tools import Progress, Tools, Watcher
from facecam.archive.writing import check_free
from facecam.engine import Engine
from facecam.errors import FacecamError, OutputError
from facecam.evidence import Matches
from facecam.people.unknown import UnknownBook
from facecam.values import Face, Image, Match
from facecam.video.atomic import output_error, sweep

__all__ = ["Found", "Labelled", "Outcome", "Tools", "find_people", "label_files", "label_video", "prepare"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        done: of each input that could be labelled, in order. problems: a line for each that could not.
        failed_photos: how many of these are photos. unreadable: whether the last of these could not be read.
        shared: files written for all inputs together.
    """

    done: list[Labelled]
    problems: list[str]
    failed_photos: int = 0
    unreadable: bool = False
    shared: tuple[Path, ...] = ()


def prepare(outputs: Outputs) -> None:
    """Make the output folder.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        outputs.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(outputs.folder, error) from error


def label_files(
    items: Sequence[Item],
    tools: Tools,
    outputs: Outputs,
    *,
    index: ArchiveIndex | None = None,
    resume: bool = False,
    crew: Callable[[Callable[[Hashable, int], None]], Crew] | None = None,
    watcher: Watcher | None = None,
    finished: Callable[[Labelled], None] = lambda done: None,
    problems: Sequence[str] = (),
    album: bool = True,
) -> Outcome:
    """Label files.

    Args:
        items: what `inputs.plan` found. problems: what it could not find, for the report.
        index: keeps what is found out; None: one for this run.
        resume: go on with what the index has; otherwise all is done anew.
        crew: makes who does the work, given whom to tell (key, frames); None: this process.
        finished: told of each input when its outputs are there.
        album: whether what is written for all inputs together is written, too.

    Raises:
        OutputError: what is written for all together exists; the index cannot be written.
    """
    kept = index is not None
    index = ArchiveIndex.temporary() if index is None else index
    shared = shared_outputs(items, outputs) if album else []
    check_free(shared, replace(outputs, ours=True) if resume else outputs)
    state = Run(items, tools, outputs, index, watcher, resume, kept, finished)
    workers = Alone(tools.engine, tools.matcher, state.tick) if crew is None else crew(state.tick)
    try:
        while True:
            while workers.idle and (task := state.take()) is not None:
                workers.submit(*task)
            if not workers.busy:
                break
            state.handle(*workers.wait())
        failures = [state.problems[place] for place in sorted(state.problems)]
        if album and state.done:
            mine = [file.entry for file in state.files if file.entry is not None and file.named]
            mine = [number for number in mine if index.get(number).state == WRITTEN]
            likeness, overwrite = tools.engine.likeness, outputs.overwrite or resume
            try:
                for path in shared:
                    entries = [*(_others(index, path, mine) if resume else ()), *map(index.get, mine)]
                    write_album(index, entries, likeness, [path], [*problems, *failures], overwrite=overwrite)
                index.note_album(mine, [str(path.absolute()) for path in shared])
            except OutputError as error:  # what was not labelled before must be told all the same
                failures.append(str(error))
                shared = []
    except BaseException:
        workers.close()
        for folder in {outputs.folder, *((outputs.folder / item.stem).parent for item in items)}:
            sweep(folder)  # what a process had to be killed over
        raise
    finally:
        workers.close()
        if not kept:
            index.close()
    photos = sum(items[place].kind == PHOTO for place in state.problems)
    done = [state.done[place] for place in sorted(state.done)]
    return Outcome(done, failures, photos, state.unreadable, tuple(shared) if state.done else ())


def _others(index: ArchiveIndex, path: Path, mine: Collection[int]) -> list[Entry]:
    """The files of earlier runs that a file written for several tells of: a run that goes on adds to it."""
    name = str(path.absolute())
    return [
        entry
        for entry in index.entries()
        if entry.id not in mine and entry.state == WRITTEN and name in entry.outputs.get("album", ())
    ]


def shared_outputs(items: Sequence[Item], outputs: Outputs) -> list[Path]:
    """Files that are written once for all inputs: the photos' sightings and table, the report."""
    found = []
    if any(item.kind == PHOTO for item in items):
        names = {JSONL: f"{PHOTOS}.sightings.jsonl", CSV: f"{PHOTOS}.csv"}
        found += [outputs.folder / name for kind, name in names.items() if kind in outputs.write]
    report_file = outputs.report(items)
    return found + ([report_file] if report_file is not None else [])


# --- one file, one picture -------------------------------------------------------------------------------


def label_video(
    item: Item,
    engine: Engine,
    matcher: Matches,
    outputs: Outputs,
    progress: Progress,
    book: UnknownBook | None = None,
) -> Labelled:
    """Label one video file, by itself.

    Raises:
        FacecamError: it cannot be decoded, or an output cannot be written.
    """
    outcome = label_files([item], Tools(engine, matcher, book), outputs, watcher=_One(progress), album=False)
    if outcome.problems:
        raise FacecamError(outcome.problems[0])
    return outcome.done[0]


class _One:
    """Tells of a run over one file."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def file(self, name: str) -> Progress:
        return self._progress

    def finished(self, name: str, faces: int = 0, people: dict[str, Any] | None = None) -> None:
        """It returns."""

    def gave_up(self, name: str) -> None:
        """It raises."""

    def skipped(self, name: str) -> None:
        """It never is."""


@dataclass(frozen=True, slots=True)
class Found:
    """A face of a single picture and who it is."""

    face: Face
    match: Match
    unknown: int | None = None


def find_people(
    image: Image, engine: Engine, matcher: Matches, book: UnknownBook | None = None, source: str = ""
) -> list[Found]:
    """All faces of a single picture, left to right.

    Args:
        image: BGR uint8, H x W x 3.
        book: numbers the unknown people. source: name of the picture, for the book.
    """
    looks = look(image, engine, pictures=book is not None and book.remembers)
    results = name_faces([entry.part for entry in looks], matcher, book, source)
    if book is not None:
        book.settle_all()
    return [Found(entry.face, results[entry.part.track].match, results[entry.part.track].unknown) for entry in looks]
