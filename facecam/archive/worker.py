"""What one process does for a run: it holds the models and does one task after another.

A task is a plain value and gives a plain value, whatever did it before and wherever it is done: it may be done
again elsewhere when a process died over it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facecam.archive.index import Limits
from facecam.archive.inputs import PHOTO
from facecam.archive.outputs import Outputs
from facecam.archive.sheet import Sheet
from facecam.archive.study import Study, study_photo, study_segment, survey
from facecam.archive.writing import write_outputs
from facecam.engine import Engine
from facecam.evidence import Matches
from facecam.values import Image

#: Told how many frames of the task are done.
Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class SurveyTask:
    """See `study.survey`."""

    path: Path
    kind: str
    study: Study
    hashed: bool


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """See `study.study_segment` and `study.study_photo`. origin: time of the file's first frame, seconds."""

    path: Path
    kind: str
    limits: Limits
    origin: float
    study: Study


@dataclass(frozen=True, slots=True)
class WriteTask:
    """See `writing.write_outputs`."""

    sheet: Sheet
    outputs: Outputs


Task = SurveyTask | SegmentTask | WriteTask


def again(task: Task) -> Task:
    """The task for another process, after one died over it: that may have written some of the outputs, or all."""
    if isinstance(task, WriteTask):
        return replace(task, outputs=replace(task.outputs, ours=True))
    return task


class Worker:
    """Does tasks with the models that it holds. One thread uses it."""

    def __init__(self, engine: Engine, matcher: Matches) -> None:
        self._engine = engine
        self._matcher = matcher
        self._picture: tuple[Path, Image] | None = None

    def do(self, task: Task, tick: Tick = lambda frames: None) -> Any:
        """A `Survey`, a `Piece` or a `Written`.

        Raises:
            FacecamError: the file cannot be read, or the output not written.
        """
        if isinstance(task, SurveyTask):
            return survey(task.path, task.kind, task.study, hashed=task.hashed)
        if isinstance(task, SegmentTask):
            if task.kind == PHOTO:
                piece, image = study_photo(task.path, self._engine, task.study)
                self._picture = task.path, image  # often it is drawn on next
                return piece
            return study_segment(task.path, task.limits, task.origin, self._engine, self._matcher, task.study, tick)
        held, self._picture = self._picture, None
        drawn = held[1] if held is not None and held[0].absolute() == task.sheet.path else None
        return write_outputs(task.sheet, task.outputs, tick, drawn)
