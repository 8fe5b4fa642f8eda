"""facecam crop: a folder of photos becomes a folder of canonical crops, to train on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.errors import MediaError, NoFaceFound, OutputError, SourceError, UsageFault
from facecam.settings import Settings, min_face_pixels
from facecam.values import Face
from facecam.zoo.card import TEMPLATES

if TYPE_CHECKING:
    from facecam.engine import Engine
    from facecam.values import Image


@click.command(
    epilog="Example: facecam crop photos/ crops/ --min-images 5", short_help="Cut aligned faces to train on."
)
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--template",
    type=click.Choice(("dlib-150", "arcface-112")),
    help="Shape of the crops; default: what the embedder in use eats.",
)
@click.option(
    "--min-images", type=click.IntRange(1), default=1, show_default=True, help="Leave out folders with fewer photos."
)
@click.option("--overwrite", is_flag=True, help="Replace crops that are there.")
@setting_options("min_face", "device", "pack", "threads")
def crop(source: Path, out: Path, template: str | None, min_images: int, overwrite: bool, settings: Settings) -> int:
    """Cut the face out of each photo in DIR (and its sub-folders) with the aligner that runs live.

    DIR/PERSON/photo.jpg becomes OUT/PERSON/photo.jpg.png. Of several faces the largest near the middle is taken.
    """
    if not source.is_dir():
        raise SourceError(f"{source}: expected a folder of photos; there is no such folder")
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise UsageFault(f"{out}: crops would mix with the photos; give a folder outside {source}")
    photos = list(_photos(source, min_images))
    if not photos:
        raise SourceError(f"{source}: no photos there (folders of at least {min_images}); see --min-images")
    common.import_cv2()
    from facecam.cli.progress import bar
    from facecam.video.photos import read_photo, write_photo
    from facecam.vision.align import align

    engine = common.open_engine(settings)
    template = template or engine.embedder.template
    made = kept = 0
    problems: list[str] = []
    with bar("cropping", "photos") as update:
        for number, path in enumerate(photos):
            update(number, len(photos))
            target = out / path.relative_to(source).parent / f"{path.name}.png"
            try:
                if target.exists() and not overwrite:
                    _check_crop(read_photo(target), target, template)
                    kept += 1
                    continue
                image = read_photo(path)
                face = _chosen(engine, image, settings)
                if face is None:
                    problems.append(f"{path}: no face found")
                    continue
                _make_folder(target.parent)
                write_photo(target, align(image, face, template), overwrite=overwrite)
                made += 1
            except MediaError as error:
                problems.append(str(error))
    click.echo(
        f"{made} crops of {template} in {out}"
        + (f", {kept} there already" if kept else "")
        + (f", {len(problems)} photos without" if problems else "")
    )
    if not made and not kept:
        raise NoFaceFound(f"{source}: no photo shows a face; {problems[0]}; try a smaller --min-face")
    return common.failed(problems)


def _photos(source: Path, least: int) -> Iterator[Path]:
    """Photos of the folder and its sub-folders, in a stable order, folders with few of them left out."""
    from facecam.video.photos import IMAGE_SUFFIXES

    for folder in sorted([source, *(p for p in source.rglob("*") if p.is_dir())]):
        found = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)
        if len(found) >= least:
            yield from found


def _check_crop(there: Image, path: Path, template: str) -> None:
    """A crop of another template is not one that "is there already": a trainer would refuse it."""
    side, (height, width) = TEMPLATES[template], there.shape[:2]
    if (height, width) != (side, side):
        raise OutputError(
            f"{path}: is no crop of {template} ({side} x {side}) but {width} x {height}; "
            "give --overwrite, or another OUT"
        )


def _make_folder(folder: Path) -> None:
    """Crops are face data: their folders are for the owner alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another OUT") from error


def _chosen(engine: Engine, image: Image, settings: Settings) -> Face | None:
    """The largest face near the middle, with landmarks; None when there is none."""
    height, width = image.shape[:2]
    faces = engine.detector.detect(image, min_face_pixels(settings.min_face, height))
    if not faces:
        return None

    def weight(face: Face) -> float:
        x, y = face.centre
        return face.size - math.hypot(x - width / 2, y - height / 2)

    return engine.landmarker.locate(image, [max(faces, key=weight)])[0]
