"""Progress for people and for programs: a bar on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO

import click

#: Seconds between two plain lines, and between two JSON lines.
PLAIN_EVERY = 10.0
JSON_EVERY = 0.5
#: Seconds between two looks of a terminal's display: a lock a frame would cost more than the frame.
_DRAW_EVERY = 0.1
#: What --progress takes.
AUTO: Final = "auto"
JSON: Final = "json"
NONE: Final = "none"
MODES: Final = (AUTO, JSON, NONE)
#: Names that a display has room for.
_NAMES = 4


@contextmanager
def bar(title: str, unit: str = "frames") -> Iterator[Callable[[int, int | None], None]]:
    """A progress display on stderr; gives a function (done, in all or None) to call as often as one likes."""
    if sys.stderr.isatty():
        yield from _rich_bar(title, unit)
    else:
        yield _plain(title, unit)


def _rich_bar(title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(),
    )
    start = last = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=8) as progress:
        task = progress.add_task(escape(title), total=0, unit=unit, rate=0.0)

        def update(done: int, total: int | None) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last > _DRAW_EVERY:
                last = now
                progress.update(task, completed=done, total=total or done, rate=done / (now - start))

        yield update


def _plain(title: str, unit: str) -> Callable[[int, int | None], None]:
    start = last = time.perf_counter()

    def update(done: int, total: int | None) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= PLAIN_EVERY:
            last = now
            rate = done / (now - start)
            of = f"/{total}" if total else ""
            left = f", {max(0.0, (total - done) / rate):.0f} s left" if total and rate else ""
            click.echo(f"{title}: {done}{of} {unit}, {rate:.0f}/s{left}", err=True)

    return update


class Run:
    """Counts what a run over many files has done; the displays below show it.

    Files may be under way at the same time (workers). The work of a file that is finished counts in full, that of one
    under way by its share; the time left follows from the files' share done, since the frames of a file that was not
    opened yet are not known.

    Attributes:
        files, done, failed, kept: files in all, labelled, failed, and finished by an earlier run.
        frames: units of work done (a video of two passes counts each frame twice). faces: tracks and faces
            of photos. names: person -> files that they were seen in.
    """

    def __init__(self, files: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.files = files
        self.done = self.failed = self.kept = 0
        self.frames = 0
        self.faces = 0
        self.names: Counter[str] = Counter()
        self._clock = clock
        self._start = clock()
        self._under_way: dict[int, tuple[str, int, int | None]] = {}
        self._begun = 0

    def file(self, name: str) -> Callable[[int, int | None], None]:
        """A file begins: gives the function to report its work with, (done, in all or None).

        Two files may have one name; the one that began first is taken to finish first.
        """
        self._begun += 1
        key = self._begun
        self._under_way[key] = (name, 0, None)

        def update(done: int, total: int | None) -> None:
            if key in self._under_way:  # a worker may speak once more after its file is finished
                self.frames += done - self._under_way[key][1]
                self._under_way[key] = (name, done, total)
                self.changed()

        self.changed()
        return update

    def finished(self, name: str, faces: int = 0, people: Mapping[str, Any] | None = None) -> None:
        """A file is done. Args: faces: tracks or faces in it. people: who was seen, by name."""
        self._end(name)
        self.done += 1
        self.faces += faces
        self.names.update(dict.fromkeys(people or (), 1))
        self.changed()

    def gave_up(self, name: str) -> None:
        """A file failed."""
        self._end(name)
        self.failed += 1
        self.changed()

    def _end(self, name: str) -> None:
        key = next((key for key, entry in self._under_way.items() if entry[0] == name), None)
        if key is not None:
            del self._under_way[key]

    def skipped(self, name: str) -> None:
        """A file was finished by an earlier run."""
        self._end(name)
        self.kept += 1
        self.changed()

    def changed(self) -> None:
        """Something was reported; a display looks whether it is time to show it."""

    def close(self) -> None:
        """The run is over, in whatever way."""

    def state(self) -> dict[str, Any]:
        """What ``--progress json`` writes; seconds, files and frames as they are, rates rounded."""
        seconds = self._clock() - self._start
        share = sum(min(1.0, done / total) for _, done, total in self._under_way.values() if total)
        worked = self.done + self.failed + share
        left = self.files - self.kept - worked
        return {
            "files": self.files,
            "done": self.done,
            "failed": self.failed,
            "skipped": self.kept,
            "current": [
                {"file": name, "frame": done, "frames": total} for name, done, total in self._under_way.values()
            ],
            "frames": self.frames,
            "fps": round(self.frames / seconds, 1) if seconds > 0 else None,
            "seconds": round(seconds, 1),
            "eta_seconds": round(seconds / worked * left, 1) if worked > 0 else None,
            "faces": self.faces,
            "people": dict(self.names.most_common()),
        }


class _JsonRun(Run):
    """One JSON object a line on stderr, at most one each half second, and a last one."""

    def __init__(self, files: int, stream: TextIO, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(files, clock)
        self._stream = stream
        self._next = 0.0

    def changed(self) -> None:
        now = self._clock()
        if now >= self._next:
            self._next = now + JSON_EVERY
            self._write("progress")

    def close(self) -> None:
        self._write("end")

    def _write(self, kind: str) -> None:
        line = {"type": kind, "schema": "facecam.progress/1", **self.state()}
        # ASCII: a surrogate of a strange file name, or a terminal's encoding, must not break the stream.
        self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._stream.flush()


class _PlainRun(Run):
    """A line now and then, for logs."""

    def __init__(self, files: int, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(files, clock)
        self._next = clock() + PLAIN_EVERY

    def changed(self) -> None:
        now = self._clock()
        if now >= self._next:
            self._next = now + PLAIN_EVERY
            click.echo(line(self.state()), err=True)


class _RichRun(Run):
    """Two live lines at the bottom of a terminal: the bar, and who was seen."""

    def __init__(self, files: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        super().__init__(files)
        self._next = 0.0
        self._display = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=8,
            # On the same terminal lines are written above the display; into a pipe or a file they go as they are.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._display.add_task("", total=max(1, files), text="")
        self._display.start()

    def changed(self) -> None:
        now = self._clock()
        if now >= self._next:
            self._next = now + _DRAW_EVERY
            state = self.state()
            share = sum(min(1.0, c["frame"] / c["frames"]) for c in state["current"] if c["frames"])
            worked = state["done"] + state["failed"] + state["skipped"] + share
            self._display.update(self._task, completed=worked, text=line(state))

    def close(self) -> None:
        self._display.stop()


def line(state: Mapping[str, Any]) -> str:
    """A `Run.state` as one line for people."""
    from facecam.people.names import escaped

    parts = [f"{state['done'] + state['failed'] + state['skipped']}/{state['files']} files"]
    if state["failed"]:
        parts.append(f"{state['failed']} failed")
    if state["fps"]:
        parts.append(f"{state['fps']:.0f} fps")
    if state["eta_seconds"] is not None:
        parts.append(f"{duration(state['eta_seconds'])} left")
    parts.append(f"{state['faces']} {'face' if state['faces'] == 1 else 'faces'}")
    names = list(state["people"])
    if names:
        more = f" +{len(names) - _NAMES}" if len(names) > _NAMES else ""
        parts.append(", ".join(names[:_NAMES]) + more)
    if len(state["current"]) == 1:
        parts.append(state["current"][0]["file"])
    return escaped(", ".join(parts))


def duration(seconds: float) -> str:
    """ "42 s", "3:20 min", "2:05 h"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


@contextmanager
def run_progress(mode: str, files: int) -> Iterator[Run]:
    """The display of a run over many files, on stderr.

    Args:
        mode: AUTO (a display on a terminal, a line now and then elsewhere), JSON, or NONE.
        files: how many there are in all.
    """
    run: Run
    if mode == JSON:
        run = _JsonRun(files, sys.stderr)
    elif mode == NONE:
        run = Run(files)
    elif sys.stderr.isatty():
        run = _RichRun(files)
    else:
        run = _PlainRun(files)
    try:
        yield run
    finally:
        run.close()
