"""facecam label: video files and photos in batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.progress import bar
from facecam.errors import FacecamError, MediaError, SourceError
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.archive.label import Labelled


@click.command(
    epilog="Example: facecam label holiday.mp4 photos/ --output-dir labelled",
    short_help="Label video files and photos in batch.",
)
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--output-dir",
    "-o",
    default=".",
    show_default="the current folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the outputs go; made if absent.",
)
@click.option("--no-video", is_flag=True, help="Write no labelled pictures or videos, only the sightings.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@setting_options("threshold", "max_false_names", "min_face", "detect_every", "device", "pack", "model", "threads")
def label(inputs: tuple[str, ...], output_dir: Path, no_video: bool, overwrite: bool, settings: Settings) -> int:
    """Label video files and photos: INPUTS are files, folders (with their sub-folders) and globs.

    For clip.mp4 this writes clip.labelled.mp4, clip.sightings.jsonl and clip.timeline.csv; for photos a
    labelled copy of each, and one photos.sightings.jsonl and photos.csv.
    """
    common.import_cv2()
    from facecam.archive.inputs import PHOTO, VIDEO, plan
    from facecam.archive.label import LabelOptions, label_photos, label_video, prepare

    items, problems = plan(inputs)
    if not items:
        return common.failed(problems)
    engine = common.open_engine(settings)
    gallery = common.open_gallery()
    matcher = common.open_matcher(engine, gallery)
    book = engine.book(gallery, common.note)
    options = LabelOptions(output_dir, pictures=not no_video, overwrite=overwrite)
    prepare(options)
    alone = len(items) + len(problems) == 1
    for item in items:
        if item.kind != VIDEO:
            continue
        try:
            with bar(item.path.name) as progress:
                done = label_video(item, engine, matcher, options, progress, book)
            _say(done)
        except FacecamError as error:
            if alone:
                raise _only(error) from error
            problems.append(str(error))
    photos = [item for item in items if item.kind == PHOTO]
    if photos:
        with bar("photos", "photos") as progress:
            labelled, unreadable = label_photos(photos, engine, matcher, options, progress, book)
        if alone and unreadable:
            raise SourceError(unreadable[0])
        problems += unreadable
        _say_photos(labelled, len(photos), output_dir)
    if gallery is not None:
        gallery.close()
    return common.failed(problems)


def _only(error: FacecamError) -> FacecamError:
    """The only source cannot be opened: that has an exit code of its own."""
    return SourceError(str(error)) if isinstance(error, MediaError) else error


def _say(done: Labelled) -> None:
    people = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in done.people.items()) or "nobody named"
    unknown = f", {done.unknown} unknown {'track' if done.unknown == 1 else 'tracks'}" if done.unknown else ""
    click.echo(f"{done.path}: {people}{unknown}; {done.frames} frames, {done.frames / done.seconds:.0f} fps")
    if done.damaged:
        common.note(f"{done.path}: {done.damaged} damaged packets or missing frames; labelled what could be decoded")
    for warning in done.warnings:
        common.note(warning)
    for path in done.outputs:
        click.echo(f"  wrote {path}")


def _say_photos(labelled: list[Labelled], asked: int, output_dir: Path) -> None:
    people: dict[str, float] = {}
    for done in labelled:
        for name, count in done.people.items():
            people[name] = people.get(name, 0) + count
    unknown = sum(done.unknown for done in labelled)
    empty = sum(1 for done in labelled if not done.people and not done.unknown)
    named = ", ".join(f"{name} {count:.0f}" for name, count in sorted(people.items())) or "nobody named"
    click.echo(f"{len(labelled)} of {asked} photos: {named}; {unknown} unknown faces, {empty} photos without a face")
    for name in ("photos.sightings.jsonl", "photos.csv"):
        click.echo(f"  wrote {output_dir / name}")
