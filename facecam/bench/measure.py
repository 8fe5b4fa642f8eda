"""Runs a source and measures it: a file as fast as it goes, a camera or the synthetic film at its own pace."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from facecam.archive.analysis import Analysis, Record
from facecam.bench.samples import Report, Samples, peak_rss
from facecam.engine import Engine
from facecam.errors import SourceError
from facecam.evidence import Matches
from facecam.live.view import LiveOptions, LiveView
from facecam.people.unknown import UnknownBook
from facecam.pipeline import Recogniser, Step
from facecam.scan import Seen, frames_ahead
from facecam.values import NOBODY, Face, Frame, Image, Sighting
from facecam.video.ahead import ReadAhead
from facecam.video.base import FrameSource, Source
from facecam.video.canvas import Picture, Planes
from facecam.video.container import FileSource
from facecam.video.overlay import draw, mark
from facecam.video.sinks import VideoSink

#: Called with (frames done, frames in all or None).
Progress = Callable[[int, int | None], None]
#: Frames that are drawn and encoded apart from the run, to tell what that would cost.
DRAWN: Final = 90


def measure_file(
    path: Path,
    engine: Engine,
    matcher: Matches,
    progress: Progress,
    *,
    book: UnknownBook | None = None,
    seconds: float | None = None,
) -> Report:
    """Recognise a file as `facecam label --no-video` does, and decode it alone before and after.

    Args:
        book: numbers unknown people, as the command would.
        seconds: end after so long; the decoding is that of the same frames.

    Raises:
        MediaError: it cannot be decoded.
    """
    with FileSource(path) as source:
        info = source.info
        report = Report.of(path.name, "file", engine, info, len(matcher))
        decode(path, DRAWN)  # the file comes from memory from now on
        engine.prepare()
        recogniser = engine.recogniser(matcher)
        recogniser.timing = report.samples
        analysis = Analysis(recogniser)
        records: list[Record] = []
        start, cpu = time.perf_counter(), time.process_time()
        with _watched(source, recogniser, report, None if seconds is None else start + seconds) as frames:
            for record in analysis.records(frames, ahead=frames_ahead(info.width, info.height)):
                report.frames += 1
                report.faces += len(record.faces)
                progress(report.frames, info.frames)
                if len(records) < DRAWN:
                    records.append(record)
        report.seconds, report.cpu = time.perf_counter() - start, time.process_time() - cpu
    report.peak_rss = peak_rss()
    report.decode_fps = max(decode(path, report.frames) for _ in range(2))
    sightings = {
        record.index: [Sighting(f[0], Face(f[1], f[2]), analysis.results[f[0]].match, True) for f in record.faces]
        for record in records
    }
    draw_and_encode(path, sightings, report.apart)
    return report


@contextmanager
def _watched(
    source: FileSource, recogniser: Recogniser, report: Report, end: float | None
) -> Iterator[Iterator[Frame]]:
    """The frames of a source, read ahead as `FileSource.ahead` does; notes when each was read, and when it was done."""
    came: dict[int, float] = {}
    take = recogniser.take

    def read() -> Frame | None:
        with report.samples.stage("read"):
            frame = source.read() if end is None or time.perf_counter() < end else None
        if frame is not None:
            came[frame.index] = time.perf_counter()
        return frame

    def clocked(seen: Seen) -> Step:
        step = take(seen)
        report.latencies.append(time.perf_counter() - came.pop(seen.frame.index))
        return step

    recogniser.take = clocked  # type: ignore[method-assign]  # the analysis calls it on this very object
    with closing(ReadAhead(read)) as frames:
        yield frames


def decode(path: Path, frames: int | None = None) -> float:
    """Frames a second of decoding alone, without conversion, of so many frames at most."""
    with FileSource(path) as source:
        count, start = 0, time.perf_counter()
        while (frames is None or count < frames) and source.read() is not None:
            count += 1
        return count / (time.perf_counter() - start)


def draw_and_encode(path: Path, sightings: dict[int, list[Sighting]], samples: Samples) -> None:
    """Time what writing a labelled video would add, frame by frame: on the decoder's planes, as `label` draws."""
    with tempfile.TemporaryDirectory() as folder, FileSource(path) as source:
        first = next(iter(source))
        planar = first.planar()
        colours = None if planar is None else planar.colours
        with VideoSink(Path(folder) / "bench.mp4", source.info, colours=colours) as sink:
            for frame in chain([first], source):
                if frame.index >= len(sightings):
                    break
                planar = frame.planar()
                picture = planar if planar is not None and sink.fits(planar) else frame.image
                with samples.stage("draw"):
                    canvas = Picture(picture) if isinstance(picture, np.ndarray) else Planes(picture)
                    mark(canvas, sightings.get(frame.index, []))
                with samples.stage("encode"):
                    sink.write(picture, frame.time)


# --- live ------------------------------------------------------------------------------------------------


class Clocked(Source):
    """A source that notes when its frames came, and in ``samples`` how long reading them took.

    Attributes:
        came: index of a frame -> when it was read, on `time.perf_counter`; newest: that of the last one.
    """

    def __init__(self, source: FrameSource, samples: Samples | None = None) -> None:
        self._source, self._samples = source, samples
        self.info = source.info
        self.came: dict[int, float] = {}
        self.newest = 0.0

    def read(self) -> Frame | None:
        start = time.perf_counter()
        frame = self._source.read()
        self.newest = time.perf_counter()
        if frame is not None:
            if self._samples is not None:
                self._samples.add("read", self.newest - start)
            self.came[frame.index] = self.newest
        return frame

    def close(self) -> None:
        self._source.close()


class _Screen:
    """Takes the pictures that a window would show."""

    closed = False

    def __init__(self, source: Clocked, late: float) -> None:
        self._source, self._late = source, late
        self.shown = self.late = 0

    def show(self, image: Image) -> str | None:
        self.shown += 1
        self.late += time.perf_counter() - self._source.newest > self._late
        return None


def measure_live(
    open_source: Callable[[Samples], FrameSource],
    engine: Engine,
    matcher: Matches,
    seconds: float,
    *,
    book: UnknownBook | None = None,
    film: Path | None = None,
) -> Report:
    """Run the live view without a window: everything is drawn, nothing shown.

    Args:
        open_source: opens the source; what it reads may be noted in the samples as "read".
        seconds: how long.
        film: the file behind a synthetic source, whose decoding alone is measured, too.

    Raises:
        SourceError: the source cannot be opened, or gave no frame.
    """
    samples = Samples()
    source = Clocked(open_source(samples))
    info = source.info
    name = info.name if film is None else "synthetic"
    report = Report.of(name, "live", engine, info, len(matcher), samples)
    recogniser = engine.recogniser(matcher)
    recogniser.timing = samples
    step = recogniser.step
    seen: list[tuple[Frame, list[Sighting]]] = []

    def clocked(frame: Frame, cut: bool | None = None) -> Step:
        result = step(frame, cut)
        report.latencies.append(time.perf_counter() - source.came[frame.index])
        sightings = recogniser.sightings(frame.time)
        report.faces += len(sightings)
        seen[:] = [(frame, sightings)]
        return result

    recogniser.step = clocked  # type: ignore[method-assign]  # the live view calls it on this very object
    screen = _Screen(source, 1 / (info.fps or 30.0))
    view = LiveView(
        [(source, recogniser)], LiveOptions(max_seconds=seconds, device=engine.device.name), screen=screen, book=book
    )
    start, cpu = time.perf_counter(), time.process_time()
    try:
        view.run()
    finally:
        report.seconds, report.cpu = time.perf_counter() - start, time.process_time() - cpu
        source.close()
    if not seen:
        raise SourceError(f"{info.name}: gave no frame in {seconds:g} s; check the camera with facecam doctor")
    report.frames, report.late = screen.shown, screen.late
    report.dropped = len(source.came) - len(report.latencies)
    report.peak_rss = peak_rss()
    if film is not None:
        report.decode_fps = max(decode(film) for _ in range(2))
        faces = [Sighting(s.track, s.face, s.match or NOBODY, s.decided) for s in seen[0][1]]
        draw_and_encode(film, dict.fromkeys(range(DRAWN), faces), report.apart)
    else:
        _draw_again(*seen[0], report.apart)
    return report


def _draw_again(frame: Frame, sightings: list[Sighting], samples: Samples) -> None:
    for _ in range(DRAWN):
        image = frame.image.copy()
        with samples.stage("draw"):
            draw(image, sightings)
