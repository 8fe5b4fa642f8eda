"""facecam label: video files and photos in batch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecam.cli import common
from facecam.cli.options import FiniteRange
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import count
from facecam.cli.progress import AUTO, MODES, run_progress
from facecam.errors import FacecamError, PersonNotFound, SourceError, UsageFault
from facecam.people.names import escaped
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.archive.crew import Crew
    from facecam.archive.inputs import Item
    from facecam.archive.label import Labelled, Outcome, Tools
    from facecam.archive.outputs import Outputs
    from facecam.people.gallery import Gallery

#: What --write takes when it is not given; the same as `archive.outputs.DEFAULT`, which is dear to import.
_DEFAULT = "video,jsonl,csv,html"


@dataclass(frozen=True, slots=True)
class _Work:
    """Who does it."""

    workers: int | None
    engine: str
    address: str | None


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
@click.option(
    "--write",
    metavar="KINDS",
    show_default=_DEFAULT,
    help="What to write, with commas between: video, jsonl, csv, vtt, html, crops.",
)
@click.option("--no-video", is_flag=True, help="Write no labelled pictures or videos, only the sightings.")
@click.option("--xmp", is_flag=True, help="Write names and face regions beside each photo (PHOTO.xmp).")
@click.option(
    "--blur", type=click.Choice(("unknown", "all", "none")), default="none", show_default=True,
    help="Whose faces to make unreadable in labelled copies.",
)  # fmt: skip
@click.option(
    "--boxes", type=click.Choice(("all", "none")), default="all", show_default=True,
    help="Whether to draw boxes and names.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option(
    "--index", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Keep what is found in an archive index (SQLite; it holds templates of faces).",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with what the index has; do again only what changed.")
@click.option("--people", metavar="NAMES", help="Give only these names, with commas between.")
@click.option("--every", metavar="N|Ss", help="Look at each Nth frame of a video (5), or one in S seconds (2s).")
@click.option("--start", type=FiniteRange(0), metavar="SECONDS", help="Of videos, leave out what comes before.")
@click.option("--end", type=FiniteRange(0), metavar="SECONDS", help="Of videos, leave out what comes from here on.")
@click.option(
    "--segment", type=FiniteRange(1.0, 3600.0), default=60.0, show_default=True, metavar="SECONDS",
    help="Length of the pieces in which a long video is analysed, kept and given to workers.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(0, 256), metavar="N", show_default="as many as pay",
    help="Use N processes; 0: this one.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(("local", "ray")), default="local", show_default=True,
    help="Where the work is done: on this machine, or on a Ray cluster (facecam[ray]).",
)  # fmt: skip
@click.option("--address", metavar="ADDRESS", help="Of the Ray cluster; without one Ray starts on this machine.")
@click.option(
    "--progress", "mode", type=click.Choice(MODES), default=AUTO, show_default=True, help="What stderr shows."
)
@setting_options(
    "threshold", "max_false_names", "min_face", "detect_every", "device", "precision", "pack", "model", "threads",
    "forget_unknown_after",
)  # fmt: skip
def label(
    inputs: tuple[str, ...], output_dir: Path, write: str | None, no_video: bool, xmp: bool, blur: str, boxes: str,
    overwrite: bool, index: Path | None, resume: bool, people: str | None, every: str | None, start: float | None,
    end: float | None, segment: float, workers: int | None, engine: str, address: str | None, mode: str,
    settings: Settings,
) -> int:  # fmt: skip
    """Label video files and photos: INPUTS are files, folders (with their sub-folders), globs, or - for a list of
    them on standard input, one a line.

    For clip.mp4 this writes clip.labelled.mp4, clip.sightings.jsonl and clip.timeline.csv; for photos a
    labelled copy of each, and one photos.sightings.jsonl and photos.csv; for all of them report.html.
    """
    if resume and index is None:
        raise UsageFault("--resume goes on with an archive index; name it with --index FILE")
    common.import_cv2()
    from facecam.archive.index import ArchiveIndex
    from facecam.archive.inputs import plan
    from facecam.archive.label import Tools, label_files, prepare
    from facecam.archive.lock import alone
    from facecam.archive.outputs import VIDEO_COPY, Outputs, chosen
    from facecam.archive.study import Study

    study = Study(every, start, end, segment)
    outputs = Outputs(output_dir, chosen(write, no_video), overwrite, xmp, blur, boxes == "all")
    if not outputs.write and not xmp and index is None:
        raise UsageFault("--no-video leaves nothing of --write to be written; leave out one of them")
    if VIDEO_COPY not in outputs.write and (blur != "none" or boxes != "all"):
        raise UsageFault("--blur and --boxes are about labelled copies, and none are written; leave them out")
    items, problems = plan(_listed(inputs))
    if not items:
        return common.failed(problems)
    with contextlib.ExitStack() as stack:
        stack.enter_context(common.stopped_cleanly())
        opened = common.open_engine(settings)
        gallery = stack.enter_context(_closing(common.open_gallery()))
        matcher = opened.matcher(gallery)
        book = opened.book(gallery, common.note)
        tools = Tools(opened, matcher, book, study, _only(people, matcher.names))
        prepare(outputs)
        kept = None
        if index is not None:
            stack.enter_context(alone(index))
            kept = stack.enter_context(ArchiveIndex.open(index, create=True))
        crew = _crew(_Work(workers, engine, address), tools, items)
        common.advise(matcher, opened)
        if blur != "none" and every not in (None, "1"):
            common.note(
                "--blur with --every: whoever moves between two samples may be seen; to hide people, leave out --every"
            )
        run = stack.enter_context(run_progress(mode, len(items)))
        outcome = label_files(
            items, tools, outputs, index=kept, resume=resume, crew=crew,
            watcher=run, finished=_say, problems=problems,
        )  # fmt: skip
    if len(items) + len(problems) == 1 and outcome.problems:
        raise SourceError(outcome.problems[0]) if outcome.unreadable else FacecamError(outcome.problems[0])
    _say_photos(outcome, output_dir, outputs)
    return common.failed([*problems, *outcome.problems])


def _listed(inputs: tuple[str, ...]) -> list[str]:
    """The inputs; "-" stands for those on standard input, a line each."""
    found: list[str] = []
    for text in inputs:
        found += [line for line in sys.stdin.read().splitlines() if line.strip()] if text == "-" else [text]
    return found


def _only(people: str | None, names: tuple[str, ...]) -> frozenset[str] | None:
    if people is None:
        return None
    from facecam.people.names import quoted

    wanted = frozenset(name.strip() for name in people.split(",") if name.strip())
    if absent := sorted(wanted - set(names)):
        raise PersonNotFound(f"--people: nobody is enrolled as {quoted(absent[0])}; facecam people list tells who is")
    return wanted


@contextlib.contextmanager
def _closing(gallery: Gallery | None) -> Iterator[Gallery | None]:
    try:
        yield gallery
    finally:
        if gallery is not None:
            gallery.close()


def _crew(work: _Work, tools: Tools, items: Sequence[Item]) -> Callable[[Callable[[Hashable, int], None]], Crew] | None:
    """Who does it: None for this very process."""
    if work.engine == "local" and work.address is not None:
        raise UsageFault("--address is of a Ray cluster; add --engine ray")
    from facecam.archive.crew import Outfit, Processes, processes_for
    from facecam.zoo.session import cpu_threads

    asked = tools.engine.settings.threads
    if work.engine == "local":
        many = processes_for(items, tools) if work.workers is None else work.workers
        if not many:
            return None
        threads = asked or max(1, cpu_threads() // many)
        return lambda tick: Processes(Outfit.of(tools.engine, tools.matcher, threads), many, tick)
    from facecam.archive.raycrew import RayActors

    return lambda tick: RayActors(Outfit.of(tools.engine, tools.matcher, asked or 1), work.workers or 0, work.address)


def _say(done: Labelled) -> None:
    from facecam.archive.inputs import CROPS_FOLDER, PHOTO

    if done.kind == PHOTO:
        return
    people = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in done.people.items()) or "nobody named"
    unknown = f", {done.unknown} unknown {'track' if done.unknown == 1 else 'tracks'}" if done.unknown else ""
    rate = f", {done.frames / done.seconds:.0f} fps" if done.seconds else ""
    shown = escaped(str(done.path))
    click.echo(f"{shown}: {escaped(people)}{unknown}; {done.frames} frames{rate}")
    if done.damaged:
        many = count(done.damaged, "packet or frame", "packets or frames")
        common.note(f"{shown}: damaged or cut short, at least {many} bad or missing; labelled as far as it goes")
    for warning in done.warnings:
        common.note(escaped(warning))
    faces = 0
    for path in done.outputs:
        if path.parent.parent.name == CROPS_FOLDER:
            faces, below = faces + 1, path.parent.parent
        else:
            click.echo(f"  wrote {escaped(str(path))}")
    if faces:
        click.echo(f"  wrote {count(faces, 'picture of a face', 'pictures of faces')} below {escaped(str(below))}")


def _say_photos(outcome: Outcome, output_dir: Path, outputs: Outputs) -> None:
    from facecam.archive.inputs import PHOTO

    kept = sum(done.kept for done in outcome.done)
    if kept:
        click.echo(f"{kept} of {len(outcome.done)} files were done before")
    photos = [done for done in outcome.done if done.kind == PHOTO]
    asked = len(photos) + outcome.failed_photos
    if asked:
        people: dict[str, float] = {}
        for done in photos:
            for name, count in done.people.items():
                people[name] = people.get(name, 0) + count
        unknown = sum(done.unknown for done in photos)
        empty = sum(1 for done in photos if not done.people and not done.unknown)
        named = ", ".join(f"{name} {count:.0f}" for name, count in sorted(people.items())) or "nobody named"
        click.echo(
            f"{len(photos)} of {asked} photos: {escaped(named)}; {unknown} unknown faces, {empty} photos without a face"
        )
    for path in outcome.shared:
        click.echo(f"  wrote {escaped(str(path))}")
