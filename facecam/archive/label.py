"""Labels files: a video in two passes (who is it; draw it), photos one by one. Outputs appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from facecam.archive import report
from facecam.archive.analysis import Analysis, Record, TrackResult
from facecam.archive.inputs import Item
from facecam.engine import Engine
from facecam.errors import FacecamError, OutputError
from facecam.people.match import one_each
from facecam.people.quality import STRANGER_QUALITY, measure
from facecam.people.unknown import UnknownBook
from facecam.pipeline import Matches
from facecam.settings import min_face_pixels
from facecam.values import Face, Frame, Image, Match, Sighting
from facecam.video.atomic import atomic_text, output_error
from facecam.video.overlay import draw
from facecam.video.photos import read_photo, write_photo
from facecam.video.sinks import VideoSink
from facecam.video.sources import FileSource
from facecam.vision.align import align
from facecam.vision.landmarks import locate_steadily
from facecam.vision.portrait import portrait
from facecam.vision.still import embed_stills, still_crops

#: Called with (frames done, frames in all or None).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """What to write and where."""

    output_dir: Path
    pictures: bool = True
    overwrite: bool = False


@dataclass(slots=True)
class Labelled:
    """What came of one input.

    Attributes:
        people: name -> seconds (video) or faces (photo); unknown: tracks or faces without a name.
        outputs: files written.
        frames, seconds: work done and wall time. warnings: lines about the sound that a user should read.
    """

    path: Path
    people: dict[str, float] = field(default_factory=dict)
    unknown: int = 0
    frames: int = 0
    seconds: float = 0.0
    damaged: int = 0
    outputs: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def prepare(options: LabelOptions) -> None:
    """Make the output folder.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(options.output_dir, error) from error


def _free(paths: Iterable[Path], options: LabelOptions) -> None:
    for path in paths:
        if path.exists() and not options.overwrite:
            raise OutputError(f"{path}: exists already; use --overwrite or another --output-dir")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(path.parent, error) from error


# --- videos ----------------------------------------------------------------------------------------------


def label_video(
    item: Item,
    engine: Engine,
    matcher: Matches,
    options: LabelOptions,
    progress: Progress,
    book: UnknownBook | None = None,
) -> Labelled:
    """Label one video file.

    Pass one finds out who each track is; pass two, if pictures are wanted, draws the names from each
    track's first frame on. Between them only boxes are kept, in a temporary file, so that memory stays flat.

    Raises:
        MediaError: it cannot be decoded. OutputError: an output cannot be written.
    """
    base = options.output_dir / item.stem
    jsonl, csv_path = (base.with_name(base.name + end) for end in (".sightings.jsonl", ".timeline.csv"))
    video = base.with_name(base.name + ".labelled.mp4") if options.pictures else None
    outputs = [path for path in (video, jsonl, csv_path) if path is not None]
    _free(outputs, options)
    start = time.perf_counter()
    done = Labelled(item.path, outputs=outputs)
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(_spool(options.output_dir))
        source = stack.enter_context(FileSource(item.path))
        info = source.info
        passes = 2 if video else 1
        total = info.frames * passes if info.frames else None
        analysis = Analysis(engine.recogniser(matcher), book, str(item.path))
        for record in analysis.records(source):
            _spool_write(spool, record)
            done.frames += 1
            progress(done.frames, total)
        done.damaged = source.damaged
        # Outputs are opened before the drawing pass and committed together at its end.
        lines = stack.enter_context(atomic_text(jsonl, overwrite=options.overwrite))
        rows_file = stack.enter_context(atomic_text(csv_path, overwrite=options.overwrite, newline=""))
        lines.write(report.dump(report.header(str(item.path), info, engine, matcher.threshold)))
        timeline = report.Timeline(info)
        sink: VideoSink | None = None
        frames: Iterator[Frame] = iter(())
        if video:
            again: FileSource = stack.enter_context(FileSource(item.path))
            frames = iter(again)
            sink = stack.enter_context(VideoSink(video, info, audio_from=item.path, overwrite=options.overwrite))
        for number, record in enumerate(_spool_read(spool), 1):
            seen = [face for face in record.faces if analysis.results[face[0]].believed]
            line = report.frame_line(record, info.start_time, info, analysis.results)
            lines.write(report.dump(line))
            timeline.add(record.time - info.start_time, (face[0] for face in seen))
            if sink is not None:
                frame = next(frames)
                _check_same(frame, record)
                image = frame.image
                draw(image, [_sighting(face, analysis.results) for face in seen])
                sink.write(image, frame.time)
                progress(done.frames + number, total)
        if sink is not None:
            done.warnings += sink.warnings
        rows = timeline.intervals(str(item.path), analysis.results)
        report.write_csv(rows_file, rows)
        done.seconds = time.perf_counter() - start
        timing = analysis.recogniser.timing
        facts = {
            "seconds": round(done.seconds, 3),
            "fps": round(done.frames / done.seconds, 1),
            "detections": timing.detections,
            "embeddings": timing.embeddings,
            "stages": {name: round(value, 3) for name, value in timing.seconds.items()},
        }
        last = report.summary(timeline, rows, facts, done.damaged)
        lines.write(report.dump(last))
    done.people = {name: entry["seconds"] for name, entry in last["people"].items()}
    done.unknown = last["unknown_tracks"]
    return done


def _check_same(frame: Frame, record: Record) -> None:
    if frame.index != record.index:
        raise RuntimeError(f"the second pass gave frame {frame.index} where the first gave {record.index}")


def _sighting(face: tuple[int, Any, float], results: dict[int, TrackResult]) -> Sighting:
    track, box, score = face
    return Sighting(track, Face(box, score), results[track].match, decided=True)


@contextlib.contextmanager
def _spool(folder: Path) -> Iterator[IO[str]]:
    """A nameless temporary file in the output folder, where there is room for the outputs, too."""
    try:
        with tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise output_error(folder, error) from error


def _spool_write(spool: IO[str], record: Record) -> None:
    faces = [[track, *(round(v, 2) for v in box), round(score, 4)] for track, box, score in record.faces]
    spool.write(json.dumps([record.index, record.time, faces], separators=(",", ":")) + "\n")


def _spool_read(spool: IO[str]) -> Iterator[Record]:
    spool.flush()
    spool.seek(0)
    for line in spool:
        index, at, faces = json.loads(line)
        yield Record(index, at, [(f[0], (f[1], f[2], f[3], f[4]), f[5]) for f in faces])


# --- photos ----------------------------------------------------------------------------------------------


def label_photos(
    items: Sequence[Item],
    engine: Engine,
    matcher: Matches,
    options: LabelOptions,
    progress: Progress,
    book: UnknownBook | None = None,
) -> tuple[list[Labelled], list[str]]:
    """Label photos: copies with names, and one photos.sightings.jsonl and photos.csv for all of them.

    Returns:
        what came of each readable photo, and one line for each that failed.
    """
    jsonl, csv_path = options.output_dir / "photos.sightings.jsonl", options.output_dir / "photos.csv"
    _free([jsonl, csv_path], options)
    done: list[Labelled] = []
    problems: list[str] = []
    with (
        atomic_text(jsonl, overwrite=options.overwrite) as lines,
        atomic_text(csv_path, overwrite=options.overwrite, newline="") as table,
    ):
        writer = report.PhotoTable(table)
        lines.write(report.dump(report.header("photos", None, engine, matcher.threshold)))
        start = time.perf_counter()
        for number, item in enumerate(items, 1):
            try:
                result, line = _label_photo(item, engine, matcher, options, book)
            except FacecamError as error:
                problems.append(str(error))
            else:
                done.append(result)
                lines.write(report.dump(line))
                writer.add(str(item.path), line["faces"])
            progress(number, len(items))
        seconds = time.perf_counter() - start
        lines.write(report.dump(_photo_summary(done, len(problems), seconds)))
    return done, problems


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
    faces = engine.detector.detect(image, min_face_pixels(engine.settings.min_face, image.shape[0]))
    if not faces:
        return []
    faces = locate_steadily(engine.landmarker, image, faces)
    crops = [align(image, face, engine.embedder.template) for face in faces]
    vectors = embed_stills(engine.embedder, [still_crops(image, face, engine.embedder.template) for face in faces])
    qualities = [measure(crop, face).overall for crop, face in zip(crops, faces)]
    # A still gives one chance only: a crop that shows too little is not named.
    matches = one_each(
        [
            match if quality >= STILL_QUALITY else replace(match, name=None)
            for match, quality in zip(matcher.match(vectors), qualities)
        ]
    )
    found = []
    for face, match, vector, quality in zip(faces, matches, vectors, qualities):
        unknown = None
        if book is not None and match.name is None and quality >= STRANGER_QUALITY:
            picture = portrait(image, face, quality) if book.remembers else None
            unknown = book.identify(vector, quality**2, (0.0, 1.0), picture, source=source)
        found.append(Found(face, match, unknown))
    return sorted(found, key=lambda entry: entry.face.box[0])


#: Below this quality (people.quality) a face in a photo stays unknown.
STILL_QUALITY = 0.3


def _label_photo(
    item: Item, engine: Engine, matcher: Matches, options: LabelOptions, book: UnknownBook | None
) -> tuple[Labelled, dict[str, Any]]:
    start = time.perf_counter()
    suffix = ".png" if item.path.suffix.lower() == ".png" else ".jpg"
    target = options.output_dir / f"{item.stem}.labelled{suffix}" if options.pictures else None
    if target is not None:
        _free([target], options)
    image = read_photo(item.path)
    height, width = image.shape[:2]
    found = find_people(image, engine, matcher, book, str(item.path))
    line = {
        "type": "photo",
        "source": str(item.path),
        "width": width,
        "height": height,
        "faces": [report.face_fields(f.face.box, f.face.score, f.match, f.unknown, width, height) for f in found],
    }
    result = Labelled(item.path, frames=1)
    for entry in found:
        if entry.match.name is None:
            result.unknown += 1
        else:
            result.people[entry.match.name] = result.people.get(entry.match.name, 0) + 1
    if target is not None:
        draw(image, [Sighting(i, entry.face, entry.match, True) for i, entry in enumerate(found, 1)])
        write_photo(target, image, overwrite=options.overwrite)
        result.outputs.append(target)
    result.seconds = time.perf_counter() - start
    return result, line


def _photo_summary(done: Sequence[Labelled], failed: int, seconds: float) -> dict[str, Any]:
    people: dict[str, int] = {}
    for result in done:
        for name, count in result.people.items():
            people[name] = people.get(name, 0) + int(count)
    return {
        "type": "summary",
        "photos": len(done),
        "failed": failed,
        "faces": sum(people.values()) + sum(r.unknown for r in done),
        "unknown": sum(r.unknown for r in done),
        "people": dict(sorted(people.items())),
        "timing": {"seconds": round(seconds, 3), "fps": round(len(done) / seconds, 1) if seconds else None},
    }
