"""``facecam people check, reject``: faults in the gallery, and "this is not NAME"."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import AS_JSON, count, erased_facts, erased_too, open_gallery, print_json, rounded
from facecam.errors import NoFaceFound, SourceError, UsageFault
from facecam.people.names import escaped, quoted
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.people.gallery import Gallery
    from facecam.people.records import Negative
    from facecam.values import Sample


@click.command(epilog="Example: facecam people check")
@AS_JSON
@setting_options("threshold", "device", "pack", "threads")
@click.pass_context
def check(ctx: click.Context, as_json: bool, settings: Settings) -> None:
    """Look for faults: twins, people enrolled twice, pictures of somebody else.

    Also named are pictures that several people are enrolled from, and people with one sample only.
    """
    from facecam.people.check import check as run_check

    with open_gallery() as gallery:
        engine = common.open_engine(settings)
        gallery.check_space(engine.embedder.space)
        threshold = engine.threshold if settings.threshold is None else settings.threshold
        report = run_check(gallery, engine.embedder.space, threshold)
    if as_json or ctx.obj:
        print_json({"schema": "facecam.check/1", **rounded(asdict(report))})
        return
    for pair in report.pairs:
        one, two = (escaped(name) for name in pair.names)
        click.echo(
            f"{one} and {two} match each other: {pair.similarity:.3f} "
            f"({escaped(pair.sources[0])} and {escaped(pair.sources[1])}), {pair.mean:.3f} in the mean"
        )
        if pair.mean >= report.threshold:
            click.echo(f"  one person enrolled twice? facecam people merge {quoted(one)} {quoted(two)}; or twins")
        else:
            click.echo("  does one of the two pictures show the other person?")
    for outlier in report.outliers:
        like = (
            f", but like {escaped(outlier.looks_like[0])} ({outlier.looks_like[1]:.3f})" if outlier.looks_like else ""
        )
        click.echo(
            f"{escaped(outlier.source)} ({outlier.digest[:12]}) does not look like the rest of "
            f"{escaped(outlier.name)}: {outlier.similarity:.3f}{like}"
        )
    for shared in report.shared:
        people = ", ".join(f"{escaped(name)} ({escaped(source)})" for name, source in shared.people)
        click.echo(f"one picture is enrolled under several names: {people}")
    for name in report.single:
        click.echo(f"{escaped(name)} has one sample; two or three more, with other light and pose, make them surer")
    found = "nothing to mend" if report.clean else "see above"
    click.echo(
        f"{count(report.people, 'person', 'people')}, {count(report.samples, 'sample')} compared "
        f"at {report.threshold:.3f}: {found}"
    )


@click.command(epilog="Example: facecam people reject stranger.jpg --name Ada")
@click.argument("photos", nargs=-1, metavar="[PHOTO|CLIP#TRACK]...")
@click.option("--name", required=True, help="Who it is not.")
@click.option("--video", type=click.Path(dir_okay=False, path_type=Path), help="A labelled video; give --track, too.")
@click.option("--track", type=click.IntRange(1), help="The track of that video, as its sightings number it.")
@click.option(
    "--sightings",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The video's sightings file, where it is not beside the video.",
)
@click.option("--largest", is_flag=True, help="Of several faces in a photo, take the largest.")
@click.option("--undo", is_flag=True, help="Take back: PHOTO may be a source or a digest that people show prints.")
@AS_JSON
@setting_options("device", "pack", "threads")
@click.pass_context
def reject(
    ctx: click.Context,
    photos: tuple[str, ...],
    name: str,
    video: Path | None,
    track: int | None,
    sightings: Path | None,
    largest: bool,
    undo: bool,
    as_json: bool,
    settings: Settings,
) -> int:
    """Say "this is not NAME": the face in each PHOTO, or a track of a labelled video.

    Whoever resembles a rejected face more than NAME's own samples is not called NAME any more. A track is
    given as CLIP#TRACK (clip.mp4#3) or by --video and --track.
    """
    if (video is None) != (track is None):
        raise click.UsageError("--video and --track come together")
    tracks = [_track_of(text) for text in photos if _track_of(text) is not None] if not undo else []
    plain = [text for text in photos if undo or _track_of(text) is None]
    if video is not None and track is not None:
        tracks.append((video, track))
    if not plain and not tracks:
        raise click.UsageError("name a photo, or a track of a labelled video")
    as_json = as_json or bool(ctx.obj)
    with open_gallery() as gallery:
        shown = escaped(gallery.person(name).name)
        if undo:
            return _undo(gallery, name, shown, plain, as_json)
        samples, problems = _samples(plain, [t for t in tracks if t is not None], sightings, largest, settings)
        if not samples:
            if len(problems) == 1:
                raise NoFaceFound(f"{problems[0]}; nothing was rejected")
            raise NoFaceFound(f"none of {len(problems)} pictures gave a usable face; nothing was rejected")
        done = gallery.reject(name, samples)
    if as_json:
        print_json({"name": done.name, "added": done.added, "duplicates": list(done.duplicates)})
    else:
        known = f", {len(done.duplicates)} known already" if done.duplicates else ""
        click.echo(f"{count(done.added, 'picture')} kept as not being {shown}{known}")
    return common.failed(problems)


def _track_of(text: str) -> tuple[Path, int] | None:
    """CLIP#TRACK, unless there is a file of that very name."""
    clip, mark, number = text.rpartition("#")
    if not mark or not clip or not number.isascii() or not number.isdigit() or Path(text).exists():
        return None
    return Path(clip), int(number)


def _samples(
    photos: list[str], tracks: list[tuple[Path, int]], sightings: Path | None, largest: bool, settings: Settings
) -> tuple[list[Sample], list[str]]:
    """The rejected faces, and a line for each photo that gave none."""
    for path in (*map(Path, photos), *(clip for clip, _ in tracks)):
        if not path.exists():
            raise SourceError(f"{escaped(str(path))}: no such file; name a photo, or a track as CLIP#TRACK")
    engine = common.open_engine(settings)
    from facecam.archive.recall import sample_of_track, sightings_file
    from facecam.enrolment import Enroller, EnrolOptions

    enroller = Enroller(engine, EnrolOptions(largest=largest, keep_crops=False))
    samples: list[Sample] = []
    problems: list[str] = []
    for text in photos:
        verdict = enroller.photo(Path(text), lambda digest: False)
        if verdict.sample is None:
            problems.append(f"{verdict.source}: {verdict.kind} ({verdict.detail})")
        else:
            samples.append(verdict.sample)
            if verdict.faces > 1:
                common.note(f"{escaped(verdict.source)}: {verdict.faces} faces; took the largest")
    for clip, number in tracks:
        samples.append(sample_of_track(engine, clip, sightings or sightings_file(clip), number))
    return samples, problems


def _undo(gallery: Gallery, name: str, shown: str, given: list[str], as_json: bool) -> int:
    kept = gallery.negatives_of(name)
    chosen = [_negative(kept, text, shown) for text in given]
    done = gallery.unreject(name, [negative.digest for negative in chosen])
    if as_json:
        gone = [{"source": n.source, "created": n.created, "digest": n.digest} for n in done.negatives]
        print_json({"name": shown, "withdrawn": gone, **erased_facts(done)})
    else:
        click.echo(f"{count(len(done.negatives), 'picture')} no longer kept as not being {shown}")
    return erased_too(done, "the rejected face", quiet=as_json)


def _negative(kept: list[Negative], text: str, shown: str) -> Negative:
    """The negative that a digest's beginning, a source or a file names."""
    found = [n for n in kept if (len(text) >= 6 and n.digest.startswith(text.lower())) or n.source == escaped(text)]
    if not found and Path(text).is_file():
        digest = hashlib.sha256(Path(text).read_bytes()).hexdigest()
        found = [n for n in kept if n.digest == digest]
    if len(found) == 1:
        return found[0]
    what = "is none" if not found else f"names {len(found)}"
    raise UsageFault(f"{quoted(text)} {what} of the pictures rejected for {shown}; facecam people show lists them")


#: Registered by `facecam.cli.people`.
COMMANDS: tuple[Any, ...] = (check, reject)
