"""The state of a run over files: what is to be done next, in which order, and what is kept of it.

The way of a file: surveyed (what it is, its segments), studied segment by segment (`study`), named when all files
before it are (`naming`, so that unknown people get the same numbers whoever was ready first), written (`writing`).
Every step is kept in an index before the next one begins.
"""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any

from facecam.archive.crew import WorkerLost
from facecam.archive.index import FAILED, PENDING, PLANNED, WRITING, WRITTEN, ArchiveIndex, Entry
from facecam.archive.inputs import VIDEO, Item
from facecam.archive.labelled import Labelled, labelled
from facecam.archive.outputs import CROPS, VIDEO_COPY, Outputs
from facecam.archive.pieces import Piece
from facecam.archive.sheets import answer, recall, sheet_of
from facecam.archive.study import Survey, file_digest
from facecam.archive.tools import Progress, Tools, Watcher
from facecam.archive.worker import SegmentTask, SurveyTask, Task, WriteTask
from facecam.archive.writing import Written, check_free, targets
from facecam.errors import FacecamError, MediaError

_WRITE, _STUDY, _SURVEY = range(3)


@dataclass(slots=True)
class _File:
    """A file of the run. left: segments under way or to be done. frames: done so far, of all segments."""

    place: int
    item: Item
    outputs: Outputs
    entry: int | None = None
    survey: Survey | None = None
    left: int = 0
    over: bool = False
    named: bool = False
    frames: dict[int, int] = field(default_factory=dict)
    total: int | None = None
    tell: Progress = lambda done, total: None


class Run:
    """The state of a run: `take` tasks and have them done, `handle` what they gave, until there is none left.

    Attributes:
        problems, done: by the input's place. unreadable: whether the last problem was that a file cannot be read.
    """

    def __init__(
        self, items: Sequence[Item], tools: Tools, outputs: Outputs, index: ArchiveIndex, watcher: Watcher | None,
        resume: bool, kept: bool, finished: Callable[[Labelled], None],
    ) -> None:  # fmt: skip
        self.files = [_File(place, item, outputs) for place, item in enumerate(items)]
        self.tools, self.outputs, self.index, self.watcher = tools, outputs, index, watcher
        self.resume, self.kept, self.tell = resume, kept, finished
        self.params = tools.study.fingerprint(tools.engine)
        self.ready: list[tuple[int, int, int, Hashable, Task]] = []
        self.order = count()
        self.next_survey = self.next_name = 0
        self.problems: dict[int, str] = {}
        self.done: dict[int, Labelled] = {}
        self.unreadable = False
        mine = {item.path.absolute() for item in items}
        for entry in index.entries():
            if entry.item.path not in mine and entry.state not in (PLANNED, FAILED):
                self._recall(entry)

    # What to do next

    def push(self, urgency: int, file: _File, step: Hashable, task: Task) -> None:
        heapq.heappush(self.ready, (urgency, file.place, next(self.order), (file.place, step), task))

    def take(self) -> tuple[Hashable, Task] | None:
        """The next task; None when there is none for now."""
        while not self.ready and self.next_survey < len(self.files):
            file = self.files[self.next_survey]
            self.next_survey += 1
            self._begin(file)
        if not self.ready:
            return None
        *_, key, task = heapq.heappop(self.ready)
        return key, task

    def _begin(self, file: _File) -> None:
        if self.watcher is not None:
            file.tell = self.watcher.file(file.item.path.name)
        known = self.index.find(file.item.path) if self.resume else None
        goals = targets(file.item, self.outputs)
        try:
            if known is not None and known.outputs.get("base") == self._base(file):
                file.outputs = replace(self.outputs, ours=True)  # what is there is ours
            else:
                check_free(list(goals.values()), self.outputs)
            status = None if known is None or known.params != self.params else self._same(known)
            if known is not None and status is not None and self._asked(known):
                self._go_on(file, known, status)
            else:
                task = SurveyTask(file.item.path, file.item.kind, self.tools.study, self.kept)
                self.push(_SURVEY, file, "survey", task)
        except FacecamError as error:
            self._fail(file, error)

    def _base(self, file: _File) -> str:
        return str((self.outputs.folder / file.item.stem).absolute())

    def _same(self, known: Entry) -> os.stat_result | None:
        """What the system says of a file that is still what it was; None of another one."""
        if known.state == FAILED:
            return None
        with contextlib.suppress(OSError):
            status = known.item.path.stat()
            if status.st_size == known.size and (
                status.st_mtime_ns == known.modified or file_digest(known.item.path) == known.digest
            ):
                return status
        return None

    def _asked(self, known: Entry) -> bool:
        """Whether a file that was named was named out of the people that are asked for now."""
        only = None if self.tools.only is None else sorted(self.tools.only)
        return known.state == PLANNED or known.info.get("only") == only

    def _go_on(self, file: _File, known: Entry, status: os.stat_result) -> None:
        """Take up a file where an earlier run left it."""
        self.index.touch(known.id, file.item, size=status.st_size, modified=status.st_mtime_ns)
        file.entry = known.id
        file.named = known.state != PLANNED
        if not file.named:
            self._studies(file)
            return
        if known.state == WRITTEN and self._all_there(known):
            file.over = True
            done = labelled(known, self.index)
            done.kept = True
            self.done[file.place] = done
            if self.watcher is not None:
                self.watcher.skipped(file.item.path.name)
        else:
            self._write(file)
        self._advance()

    def _all_there(self, known: Entry) -> bool:
        files = known.outputs.get("files", [])
        if known.info.get(PENDING) or known.outputs.get("stale"):
            return False  # a relabelling gave other names than what is written or drawn
        return known.outputs.get("choice") == _choice(self.outputs) and all(map(os.path.exists, files))

    # Steps

    def handle(self, key: Any, answer: Any) -> None:
        """Take what a task gave."""
        file, step = self.files[key[0]], key[1]
        if file.over:
            return
        try:
            if isinstance(answer, FacecamError):
                raise answer
            if isinstance(answer, Survey):
                self._surveyed(file, answer)
            elif isinstance(answer, Piece):
                assert file.entry is not None
                self.index.put(file.entry, step, answer)
                file.frames[step] = answer.frames
                self.tick(key, answer.frames)
                file.left -= 1
                self._advance()
            elif isinstance(answer, Written):
                self._written(file, answer)
        except FacecamError as error:
            self._fail(file, error)

    def _surveyed(self, file: _File, found: Survey) -> None:
        info = {"source": None if found.info is None else asdict(found.info)}
        file.survey = found
        file.entry = self.index.enter(
            file.item, size=found.size, modified=found.modified, digest=found.digest, params=self.params,
            space=self.tools.engine.embedder.space, info=info, limits=found.limits,
        )  # fmt: skip
        self._studies(file)

    def _studies(self, file: _File) -> None:
        assert file.entry is not None
        entry = self.index.get(file.entry)
        limits, missing = self.index.limits(file.entry), self.index.missing(file.entry)
        source = entry.info["source"]
        origin = 0.0 if source is None else source["start_time"]
        copy = VIDEO_COPY in self.outputs.write and file.item.kind == VIDEO
        if source is not None and source["frames"] and self.tools.study.end is None:
            file.total = source["frames"] * (2 if copy else 1)
        file.left = len(missing)
        for number in missing:
            task = SegmentTask(file.item.path, file.item.kind, limits[number], origin, self.tools.study)
            self.push(_STUDY, file, number, task)
        self._advance()

    def _advance(self) -> None:
        """Name the files whose turn it is."""
        while self.next_name < len(self.files):
            file = self.files[self.next_name]
            ready = file.entry is not None and (file.named or file.left == 0)
            if not ready and not file.over:
                return
            self.next_name += 1  # first, since what fails comes by here once more
            if file.entry is not None and file.named:
                self._recall(self.index.get(file.entry))
            elif ready and not file.over:
                self._name(file)

    def _name(self, file: _File) -> None:
        assert file.entry is not None
        try:
            answer(self.index, file.entry, self.tools)
            file.named = True
            if self.tools.book is not None:
                self.tools.book.settle_all()
            self._write(file)
        except FacecamError as error:
            self._fail(file, error)

    def _write(self, file: _File) -> None:
        """Let the outputs be written: first it is noted that they will be, so that what is there half is ours."""
        assert file.entry is not None
        noted = {
            "base": self._base(file),
            "folder": str(self.outputs.folder.absolute()),
            "write": sorted(self.outputs.write),
            "xmp": self.outputs.xmp,
            "choice": _choice(self.outputs),
        }
        self.index.set_state(file.entry, WRITING, outputs=noted)
        sheet = sheet_of(
            self.index, self.index.get(file.entry), self.tools.engine.likeness, pictures=CROPS in self.outputs.write
        )
        self.push(_WRITE, file, "write", WriteTask(sheet, file.outputs))

    def _written(self, file: _File, written: Written) -> None:
        assert file.entry is not None
        file.over = True
        entry = self.index.get(file.entry)
        noted = entry.outputs | {
            "files": [str(path.absolute()) for path in written.outputs],
            "shown": [str(path) for path in written.outputs],
            "seconds": round(written.seconds, 3),
        }
        self.index.set_state(file.entry, WRITTEN, outputs=noted)
        if entry.info.pop(PENDING, None):
            self.index.note_info(file.entry, entry.info)
        done = labelled(self.index.get(file.entry), self.index)
        done.warnings = written.warnings
        self.done[file.place] = done
        if self.watcher is not None:
            faces = done.unknown + len(done.people)
            self.watcher.finished(file.item.path.name, faces, dict(done.people))
        self.tell(done)
        self._advance()

    def _fail(self, file: _File, error: FacecamError) -> None:
        problem = f"{file.item.path}: {error}" if isinstance(error, WorkerLost) else str(error)
        file.over = True
        self.problems[file.place] = problem
        self.unreadable = isinstance(error, MediaError)
        if file.entry is None and self.kept:
            known = self.index.find(file.item.path)
            if known is None or known.state in (PLANNED, FAILED):
                file.entry = self.index.enter(
                    file.item, size=0, modified=0, digest="", params=self.params,
                    space=self.tools.engine.embedder.space, info={"source": None}, limits=[],
                )  # fmt: skip
        if file.entry is not None and not file.named:
            self.index.set_state(file.entry, FAILED, problem=problem)
        if self.watcher is not None:
            self.watcher.gave_up(file.item.path.name)
        self._advance()

    def _recall(self, entry: Entry) -> None:
        """Let the book know the strangers whom an earlier run numbered."""
        if self.tools.book is not None and entry.space == self.tools.engine.embedder.space:
            recall(self.index, entry, self.tools.book, self.tools.engine.likeness)

    def tick(self, key: Any, frames: int) -> None:
        """A task of a video has come so far."""
        file, step = self.files[key[0]], key[1]
        file.frames[step] = frames
        file.tell(sum(file.frames.values()), file.total)


def _choice(outputs: Outputs) -> list[str]:
    """What is written, as the index keeps it: another choice is written anew."""
    return [*sorted(outputs.write), f"xmp={outputs.xmp}", f"blur={outputs.blur}", f"boxes={outputs.boxes}"]
