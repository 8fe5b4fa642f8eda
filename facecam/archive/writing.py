"""Writes what one input gives by itself: sightings, timeline, subtitles, pictures of faces, the labelled copy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from facecam.archive import report
from facecam.archive.analysis import Record
from facecam.archive.crops import write_crops
from facecam.archive.hiding import AFTER, BEFORE, NONE, to_hide, with_neighbours
from facecam.archive.inputs import PHOTO, Item
from facecam.archive.naming import TrackResult
from facecam.archive.outputs import CROPS, CSV, JSONL, VIDEO_COPY, VTT, Outputs
from facecam.archive.sheet import Sheet
from facecam.archive.vtt import write_vtt
from facecam.archive.xmp import write_sidecar
from facecam.errors import MediaError, OutputError
from facecam.geometry import between
from facecam.pipeline import CutTest
from facecam.values import Box, Face, Frame, Image, Sighting
from facecam.video.atomic import atomic_text, output_error
from facecam.video.behind import WriteBehind
from facecam.video.canvas import Canvas, Picture, Planes
from facecam.video.overlay import blur, mark
from facecam.video.photos import profile_of, read_photo, write_photo
from facecam.video.sinks import VideoSink, encoding_threads
from facecam.video.sources import FileSource


def targets(item: Item, outputs: Outputs) -> dict[str, Path]:
    """Kind -> file, of those that an input gives by itself."""
    if item.kind == PHOTO:
        copy = outputs.labelled_photo(item)
        return {} if copy is None else {VIDEO_COPY: copy}
    return outputs.of_video(item.stem)


def check_free(paths: Iterable[Path], outputs: Outputs) -> None:
    """Make the folders; refuse what is there already.

    Raises:
        OutputError: an output exists (where none `replaces` it), or its folder cannot be made.
    """
    for path in paths:
        try:
            exists = path.exists()
        except OSError as error:  # the name is too long, the folder may not be entered
            raise output_error(path, error) from error
        if exists and not outputs.replaces:
            raise OutputError(f"{path}: exists already; use --overwrite or another --output-dir")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(path.parent, error) from error


@dataclass(slots=True)
class Written:
    """What writing gave. warnings: lines about the sound that a user should read. seconds: it took."""

    outputs: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0


def write_outputs(
    sheet: Sheet, outputs: Outputs, progress: Callable[[int], None] = lambda frames: None, image: Image | None = None
) -> Written:
    """Write all that an input gives by itself; of a video all appear together at the end.

    Args:
        progress: told the number of frames drawn.
        image: a photo's picture, upright, where the caller has it; it is drawn on.

    Raises:
        MediaError: the input cannot be read any more, or has changed since it was looked at.
        OutputError: an output cannot be written.
    """
    start = time.perf_counter()
    files = targets(Item(sheet.path, sheet.kind, sheet.stem), outputs)
    check_free(files.values(), outputs)
    done = Written(list(files.values()))
    if sheet.kind == PHOTO:
        if VIDEO_COPY in files:
            _write_photo(sheet, files[VIDEO_COPY], outputs, image)
        if outputs.xmp and (sidecar := write_sidecar(sheet.path, sheet.appearances(), overwrite=outputs.overwrite)):
            done.outputs.append(sidecar)
    else:
        with contextlib.ExitStack() as stack:
            _write_texts(sheet, files, outputs.replaces, stack, lambda: time.perf_counter() - start)
            if VIDEO_COPY in files:
                done.warnings += _write_video(sheet, files[VIDEO_COPY], outputs, progress)
    if CROPS in outputs.write:
        pictures = [(seen, sheet.pictures[seen.track]) for seen in sheet.appearances() if seen.track in sheet.pictures]
        done.outputs += write_crops(outputs.folder, sheet.stem, pictures, overwrite=outputs.replaces)
    done.seconds = time.perf_counter() - start
    return done


def rewrite_texts(sheet: Sheet, outputs: Outputs) -> list[Path]:
    """Write the text outputs of a video anew after a relabelling; returns the files."""
    files = targets(Item(sheet.path, sheet.kind, sheet.stem), replace(outputs, write=outputs.write - {VIDEO_COPY}))
    with contextlib.ExitStack() as stack:
        _write_texts(sheet, files, True, stack, lambda: 0.0)
    return list(files.values())


def _write_texts(
    sheet: Sheet, files: Mapping[str, Path], overwrite: bool, stack: contextlib.ExitStack, took: Callable[[], float]
) -> None:
    """Sightings, timeline and subtitles; they appear when the stack is closed without an exception."""
    rows = sheet.rows()
    if CSV in files:
        report.write_csv(stack.enter_context(atomic_text(files[CSV], overwrite=overwrite, newline="")), rows)
    if VTT in files:
        write_vtt(stack.enter_context(atomic_text(files[VTT], overwrite=overwrite)), sheet.appearances())
    if JSONL not in files:
        return
    lines = stack.enter_context(atomic_text(files[JSONL], overwrite=overwrite))
    lines.write(report.dump(sheet.header))
    lines.writelines(sheet.lines())
    # The last line tells how long it took; with a labelled copy that is known when this is drawn.
    stack.callback(lambda: lines.write(_last_line(sheet, rows, took())))


def _last_line(sheet: Sheet, rows: list[Any], took: float) -> str:
    seconds = max(1e-3, sheet.timing["seconds"] + took)
    facts = sheet.timing | {"seconds": round(seconds, 3), "fps": round(sheet.counts["frames"] / seconds, 1)}
    return report.dump(report.summary(sheet.counts, rows, facts, sheet.damaged))


# --- labelled copies -------------------------------------------------------------------------------------


def _check_same(sheet: Sheet) -> None:
    """What was found is of the pictures that were looked at: on others, boxes and blurring would miss.

    Raises:
        MediaError: the input has changed: it was replaced, or is still being written.
    """
    with contextlib.suppress(OSError):  # reading it tells
        status = sheet.path.stat()
        if (status.st_size, status.st_mtime_ns) != sheet.stamp:
            raise MediaError(f"{sheet.path}: changed while it was labelled; label it again when nothing writes to it")


def _write_photo(sheet: Sheet, path: Path, outputs: Outputs, image: Image | None) -> None:
    if image is None:
        picture = read_photo(sheet.path)
        _check_same(sheet)
    else:
        picture = image
    _hide_and_draw(Picture(picture), Record(*next(sheet.frames())), [], sheet.results, outputs)
    write_photo(path, picture, overwrite=outputs.replaces, profile=profile_of(sheet.path))


def _write_video(sheet: Sheet, path: Path, outputs: Outputs, progress: Callable[[int], None]) -> list[str]:
    """Read the video again, the same frames, and draw; returns what a user should read about the sound.

    One thread decodes, one encodes, and pictures stay as the decoder gives them wherever nothing is drawn.
    """
    # The copy of a stretch begins at 0.
    shift = 0.0 if sheet.whole else next(sheet.frames())[1]
    stretch = None if sheet.whole else (shift, sheet.pieces[-1][2][1])
    pairs = _with_near(sheet, outputs)
    before: list[Box] = []
    _check_same(sheet)
    # Two cores are full with a thread that decodes and one that encodes; more of either take the time from the other.
    with contextlib.closing(_all_frames(sheet, steady=encoding_threads() == 1)) as frames:
        first = next(frames, None)
        if first is None:
            raise _short(sheet)
        planar = first.planar()
        with (
            VideoSink(
                path,
                sheet.info,
                audio_from=sheet.path,
                stretch=stretch,
                colours=None if planar is None else planar.colours,
                overwrite=outputs.replaces,
            ) as sink,
            WriteBehind(sink.write) as behind,
        ):
            now = next(pairs, None)
            for count, frame in enumerate(chain([first], frames), 1):
                planar = frame.planar()
                canvas: Canvas
                if planar is not None and sink.fits(planar):
                    picture, canvas = planar, Planes(planar)
                else:
                    picture, canvas = frame.image, Picture(frame.image)
                if now is not None and now[0].index == frame.index:
                    before = _hide_and_draw(canvas, *now, sheet.results, outputs)
                    now = next(pairs, None)
                else:  # behind the last frame that was sampled: whoever was hidden there is hidden still
                    _hide(canvas, before)
                behind.put(picture, frame.time - shift)
                progress(count)
            _check_same(sheet)
            if now is not None:
                raise _short(sheet)
    return [*sink.warnings]


def _short(sheet: Sheet) -> MediaError:
    return MediaError(f"{sheet.path}: gave fewer pictures when it was read again; check the disk and label it again")


def _with_near(sheet: Sheet, outputs: Outputs) -> Iterator[tuple[Record, list[tuple[int, Box]]]]:
    """The records of all frames, and who is near in time; where frames were left out, as far as the next sample."""
    records = filled(Record(*frame) for frame in sheet.frames())
    if outputs.blur == NONE:
        return ((record, []) for record in records)
    step = max((b[0] - a[0] for a, b in pairwise(sheet.frames())), default=1)
    test = CutTest()
    cuts = {frame.index for frame in _all_frames(sheet) if test.is_cut(frame)}
    return with_neighbours(records, max(BEFORE, step), max(AFTER, step), cuts)


def _hide(canvas: Canvas, boxes: Iterable[Box]) -> None:
    for box in boxes:
        blur(canvas, box)


def _hide_and_draw(
    canvas: Canvas, record: Record, near: list[tuple[int, Box]], results: Mapping[int, TrackResult], outputs: Outputs
) -> list[Box]:
    """Returns the boxes that were hidden."""
    hidden = to_hide(outputs.blur, record, near, results)
    _hide(canvas, hidden)
    if outputs.boxes:
        seen = (face for face in record.faces if results[face[0]].believed)
        mark(
            canvas,
            [Sighting(t, Face(box, score), results[t].match, True, results[t].unknown) for t, box, score in seen],
        )
    return hidden


def _all_frames(sheet: Sheet, *, steady: bool = False) -> Generator[Frame, None, None]:
    """``steady``: decode all with one thread, and not only what was found damaged; whole pieces are the same so."""
    offset = 0
    for _, _, limits, decoded, damaged in sheet.pieces:
        if not decoded:
            continue  # nothing of it can be
        with FileSource(sheet.path, *limits, steady=steady or damaged) as source:
            for frame in source.ahead():
                frame.index += offset
                yield frame
        offset += decoded


def filled(records: Iterator[Record]) -> Iterator[Record]:
    """Records of every frame out of those of sampled ones: boxes move on between them."""
    last: Record | None = None
    for record in records:
        if last is not None and record.index - last.index > 1:
            old, new = ({track: (box, score) for track, box, score in r.faces} for r in (last, record))
            for index in range(last.index + 1, record.index):
                share = (index - last.index) / (record.index - last.index)
                both = [(t, between(old[t][0], new[t][0], share), old[t][1]) for t in old if t in new]
                nearer, other = (old, new) if share < 0.5 else (new, old)
                yield Record(index, last.time, both + [(t, *nearer[t]) for t in nearer if t not in other])
        yield record
        last = record
