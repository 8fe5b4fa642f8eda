"""facecam enroll: learn people from photos, videos or the camera."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import count, open_gallery
from facecam.errors import FacecamError, NoFaceFound, SourceError, UsageFault
from facecam.people.names import escaped
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.enrolment import Enroller, Verdict
    from facecam.people.gallery import Gallery
    from facecam.values import Sample


@click.command(
    epilog='Example: facecam enroll --name "Ada Lovelace" ada1.jpg ada2.jpg',
    short_help="Learn a person from photos, a video or the camera.",
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--name", help="Who it is: 1 to 100 characters.")
@click.option(
    "--from-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Learn many: a sub-folder of photos for each person, named after them.",
)
@click.option("--source", default="0", show_default=True, help="Camera to use when no paths are given: number or URL.")
@click.option(
    "--samples", default=5, show_default=True, type=click.IntRange(1, 50), help="Samples from a video or camera."
)
@click.option("--largest", is_flag=True, help="Of several faces in a photo, take the largest.")
@click.option("--no-keep-crops", is_flag=True, help="Keep vectors only; another model will need new photos.")
@setting_options("device", "pack", "model", "threads")
def enroll(
    paths: tuple[Path, ...],
    name: str | None,
    from_dir: Path | None,
    source: str,
    samples: int,
    largest: bool,
    no_keep_crops: bool,
    settings: Settings,
) -> int:
    """Learn a person from PATHS (photos, folders, a video) or, without paths, from the camera."""
    if (name is None) == (from_dir is None):
        raise click.UsageError("give --name NAME, or --from-dir DIR with a sub-folder for each person")
    if from_dir is not None and paths:
        raise click.UsageError("--from-dir takes no further paths")
    from facecam.people.names import clean_name

    people: list[tuple[str, tuple[Path, ...] | None]]
    if from_dir is not None:
        people = [(clean_name(folder.name), (folder,)) for folder in _sub_folders(from_dir)]
    else:
        people = [(clean_name(name or ""), paths or None)]
        if len(paths) == 1 and not paths[0].exists():
            raise SourceError(f"{paths[0]}: no such file or folder")
    common.import_cv2()
    from facecam.enrolment import Enroller, EnrolOptions

    engine = common.open_engine(settings)
    if not engine.enrols:
        raise UsageFault(f"{settings.model} is a classifier: it names the people it was trained on, without enrolment")
    enroller = Enroller(engine, EnrolOptions(largest=largest, keep_crops=not no_keep_crops, samples=samples))
    problems: list[str] = []
    with open_gallery(create=True) as gallery:
        gallery.check_space(engine.embedder.space)
        for person, inputs in people:
            try:
                if inputs is None:
                    _from_camera(person, enroller, gallery, source)
                else:
                    problems += _from_paths(person, enroller, gallery, inputs)
            except FacecamError as error:
                if len(people) == 1:
                    raise
                problems.append(str(error))
    return common.failed(problems)


def _sub_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; --from-dir takes a folder with a sub-folder for each person")
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise UsageFault(f"{folder}: has no sub-folders; --from-dir takes one sub-folder for each person")
    from facecam.video.photos import IMAGE_SUFFIXES

    loose = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if loose:
        common.note(
            f"{count(len(loose), 'photo')} directly in {escaped(str(folder))} left out ({escaped(loose[0])} ...): "
            "whose they are, the name of a sub-folder tells"
        )
    return found


def _from_paths(name: str, enroller: Enroller, gallery: Gallery, paths: tuple[Path, ...]) -> list[str]:
    """Enrol; a line for each path that was named and could not be read."""
    from facecam.enrolment import ADDED, DUPLICATE, UNREADABLE, expand_photos, without_outliers
    from facecam.guidance import of_video
    from facecam.video.photos import IMAGE_SUFFIXES

    space = enroller.engine.embedder.space
    seen: set[str] = set()

    def known(digest: str) -> bool:
        before = digest in seen
        seen.add(digest)
        return before or gallery.has_digest(name, digest, space)

    verdicts: list[Verdict] = []
    samples: list[Sample] = []
    problems: list[str] = []
    places: dict[str, str] = {}  # of samples, by their digest: where in a folder's sub-folders they are
    for path in expand_photos(paths):
        if path.suffix.lower() in IMAGE_SUFFIXES or not path.exists():
            found: Iterable[Verdict] = [enroller.photo(path, known)]
        else:
            found = of_video(enroller, path, known)
        place = _place(path, paths)
        for verdict in found:
            verdicts.append(verdict)
            detail = f" ({verdict.detail})" if verdict.detail else ""
            click.echo(escaped(f"  {place}{verdict.source}: {verdict.kind}{detail}"))
            if verdict.kind == UNREADABLE and path in paths:
                problems.append(f"{path}: {verdict.detail}")
            if verdict.sample is not None:
                samples.append(verdict.sample)
                places[verdict.sample.digest] = place
    if not samples:
        if verdicts and all(v.kind == DUPLICATE for v in verdicts):
            click.echo(f"{name}: nothing new; every picture is enrolled already")
            return []
        if len(verdicts) == 1 and verdicts[0].kind == UNREADABLE:
            raise SourceError(f"{paths[0]}: {verdicts[0].detail}")
        if not verdicts:
            raise NoFaceFound(f"{paths[0]}: no photos in it, so nothing was enrolled (a video is named by itself)")
        raise NoFaceFound(f"{name}: none of {count(len(verdicts), 'picture')} gave a usable face; nothing was enrolled")
    templates = gallery.templates(space)
    known_vectors = templates.vectors[[templates.names[i] == name for i in templates.owner]]
    samples, refused = without_outliers(samples, known_vectors, enroller.engine.threshold)
    for sample, similarity in refused:
        click.echo(
            escaped(
                f"  {places[sample.digest]}{sample.source}: unlike the others (similarity {similarity:.2f} to them), "
                "not enrolled; if it is the same person all the same: enrol it as OTHER, then facecam people merge "
                f"OTHER {shlex.quote(name)}"
            )
        )
    if refused and len(set(places.values())) > 1:
        folder = next(path for path in paths if path.is_dir())
        common.note(
            f"a sub-folder for each person is read by: facecam enroll --from-dir {escaped(shlex.quote(str(folder)))}"
        )
    if not samples:
        if len(verdicts) == 1:
            raise NoFaceFound(f"{name}: the picture does not look like {name} as enrolled; nothing was enrolled")
        raise NoFaceFound(f"{name}: the pictures do not look like one person; nothing was enrolled")
    added = gallery.add(name, samples)
    kinds = {v.kind for v in verdicts} - {ADDED}
    rest = ", ".join(f"{sum(v.kind == kind for v in verdicts)} {kind}" for kind in sorted(kinds))
    _summary(name, added, rest)
    if added.new_person:
        taken = {sample.digest for sample in samples}
        faults = [v.fault for v in verdicts if v.sample is not None and v.sample.digest in taken]
        _advise(name, samples, faults, enroller.engine.threshold)
    return problems


def _advise(name: str, samples: Sequence[Sample], faults: Sequence[str | None], threshold: float) -> None:
    """Say what of a new person's pictures may lead to wrong names."""
    from facecam.people.check import outlier_bound

    named = escaped(shlex.quote(name))
    if all(faults):
        words = " and ".join(sorted({fault for fault in faults if fault}))
        common.note(
            f"all pictures of {escaped(name)} are {words}: others who are seen as badly may get that name; "
            f"add a good one: facecam enroll --name {named} PHOTO"
        )
    if len(samples) == 2:
        similarity = float(samples[0].template.vector @ samples[1].template.vector)
        if similarity < outlier_bound(threshold):
            common.note(
                f"the two pictures of {escaped(name)} hardly resemble each other (similarity {similarity:.2f}); "
                f"if one shows somebody else: facecam people remove {named}, and enrol each alone"
            )


def _place(path: Path, given: tuple[Path, ...]) -> str:
    """The sub-folder in which a photo of a given folder was found, "" without one; for the eye."""
    for folder in given:
        if path != folder and path.is_relative_to(folder):
            below = path.parent.relative_to(folder)
            return f"{below}{os.sep}" if below.parts else ""
    return ""


def _summary(name: str, added: object, rest: str = "") -> None:
    from facecam.people.gallery import Added

    assert isinstance(added, Added)
    word = "learned" if added.new_person else "now knows more of"
    click.echo(f"{word} {name}: {added.added} {'sample' if added.added == 1 else 'samples'} added"
               + (f"; {rest}" if rest else ""))  # fmt: skip
    for source, other in added.elsewhere:
        common.note(f"{source} is enrolled as {other}, too; see: facecam people show {other!r}")


def _from_camera(name: str, enroller: Enroller, gallery: Gallery, spec: str) -> None:
    from facecam.guidance import Guide
    from facecam.values import Match, Sighting
    from facecam.video.overlay import draw
    from facecam.video.sources import open_source
    from facecam.video.window import Window, display_available

    guide = Guide(enroller)
    session = os.urandom(16).hex()
    window = Window("facecam enroll") if display_available() else None
    if window is None:
        common.note("no display; follow the guidance here")
    said = ""
    deadline = time.monotonic() + CAMERA_SECONDS
    with open_source(spec, paced=True) as source:
        try:
            while not guide.done and (frame := source.read()) is not None:
                face = guide.offer(frame.image, session)
                line = f"{len(guide.taken)} of {enroller.options.samples}: {guide.message}"
                if line != said:
                    click.echo(f"  {line}")
                    said = line
                if window is not None:
                    image = frame.image.copy()
                    seen = [Sighting(1, face, Match(name=name), True)] if face is not None else []
                    draw(image, seen, hud=[line, "q quit"])
                    if window.show(image) in ("q", "esc") or window.closed:
                        raise KeyboardInterrupt
                if time.monotonic() > deadline:
                    break
        finally:
            if window is not None:
                window.close()
    if not guide.taken:
        raise NoFaceFound(f"{name}: the camera showed no usable face; nothing was enrolled")
    if not guide.done:
        common.note(f"{len(guide.taken)} of {enroller.options.samples} samples taken before the source ended")
    _summary(name, gallery.add(name, guide.taken))


#: A camera session ends after this many seconds with what was taken.
CAMERA_SECONDS = 120.0
