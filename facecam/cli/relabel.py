"""facecam relabel: names anew for a whole archive, from its index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import AS_JSON, count, erased_too, print_json
from facecam.cli.progress import bar
from facecam.errors import PersonNotFound
from facecam.people.names import escaped, quoted
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.archive.index import ArchiveIndex
    from facecam.archive.relabel import Relabelled
    from facecam.engine import Engine
    from facecam.people.gallery import Gallery
    from facecam.people.records import Removed

#: Of outputs that cannot be written so many are told one by one: a full disk may mean all of them.
_TOLD = 10


@click.command(
    epilog="Example: facecam relabel --index archive.db",
    short_help="Name an archive anew, without decoding a frame.",
)
@click.option(
    "--index", default="archive.db", show_default=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="The archive index that facecam label --index made.",
)  # fmt: skip
@AS_JSON
@setting_options("threshold", "max_false_names", "device", "pack", "model", "threads")
def relabel(index: Path, as_json: bool, settings: Settings) -> int:
    """Name everybody in the archive by the gallery as it is now: after enrolling, removing or renaming people.

    Works on the index's templates, decodes no frame, and writes the sightings, timelines, subtitles, sidecars and
    reports anew. Labelled copies keep their old names until facecam label draws them again.
    """
    done = relabelled(index, settings, quiet=as_json)
    if as_json:
        print_json(
            {
                "files": done.files,
                "changed": done.changed,
                "skipped": done.skipped,
                "tracks": done.tracks,
                "written": [str(path) for path in done.outputs],
                "stale": [str(path) for path in done.stale],
                "absent": [str(path) for path in done.absent],
            }
        )
    return 1 if done.problems else 0


def relabelled(index: Path, settings: Settings, *, quiet: bool = False) -> Relabelled:
    """Relabel an archive, and say what that did."""
    common.import_cv2()
    from facecam.archive.index import ArchiveIndex
    from facecam.archive.lock import alone

    with alone(index), ArchiveIndex.open(index) as opened:
        engine = common.open_engine(settings)
        gallery = common.open_gallery()
        try:
            done = _work(opened, engine, gallery)
        finally:
            if gallery is not None:
                gallery.close()
    _tell(done, quiet)
    return done


def _work(index: ArchiveIndex, engine: Engine, gallery: Gallery | None) -> Relabelled:
    from facecam.archive.relabel import relabel as work
    from facecam.archive.tools import Tools
    from facecam.people import strangers

    matcher = common.open_matcher(engine, gallery)
    numbers = {}
    if gallery is not None:
        numbers = {old: who.number for who in strangers.everyone(gallery) for old in who.also}
    tools = Tools(engine, matcher, engine.book(gallery, common.note))
    with bar(index.path.name, "files") as progress:
        return work(index, tools, numbers, progress)


def forgotten(
    index: Path, name: str, gallery: Gallery, settings: Settings, *, quiet: bool
) -> tuple[int, Removed | None]:
    """Take a person out of an archive index, and out of the gallery if they are in it; say what that did.

    Returns:
        the exit code; what the gallery removed.

    Raises:
        PersonNotFound: neither has the person.
    """
    common.import_cv2()
    from facecam.archive import forget
    from facecam.archive.index import ArchiveIndex
    from facecam.archive.lock import alone

    with alone(index), ArchiveIndex.open(index) as opened:
        engine = common.open_engine(settings)
        enrolled = any(person.name == name for person in gallery.people())
        if enrolled:
            _work(opened, engine, gallery)  # so that all tracks of theirs carry the name
        tracks, others = forget.clear(opened, name, engine.embedder.space, engine.likeness)
        if not enrolled and not tracks and not others:
            raise PersonNotFound(f"{quoted(name)} is neither in the gallery nor in {escaped(str(index))}")
        removed = gallery.remove(name) if enrolled else None
        done = _work(opened, engine, gallery)
        erased = forget.scrub(opened, name)
    if not quiet:
        click.echo(f"{escaped(name)}: {count(tracks, 'track')} of {escaped(str(index))} hold no vector or picture now.")
    _tell(done, quiet)
    code = erased_too(erased, f"{escaped(name)} in {escaped(str(index))}", quiet=quiet, noun="index")
    for other in others:
        common.note(f"{escaped(other)}: was analysed by another model and still holds the person; label it again")
    return max(code, 1 if others or done.problems else 0), removed


def _tell(done: Relabelled, quiet: bool) -> None:
    if not quiet:
        click.echo(
            f"{count(done.tracks, 'track')} in {count(done.changed, 'file')} of {done.files} changed; "
            f"wrote {count(len(done.outputs), 'file')}"
        )
    if done.skipped:
        common.note(f"{count(done.skipped, 'file')} were analysed by another model; label them again to name them")
    if done.stale:
        shown = escaped(str(done.stale[0])) + (" ..." if len(done.stale) > 1 else "")
        common.note(
            f"{count(len(done.stale), 'labelled copy', 'labelled copies')} still show the old names: {shown}; facecam "
            "label with --resume draws them anew"
        )
    for folder in done.absent:
        common.note(
            f"{escaped(str(folder))}: is not there, so nothing in it was written anew; relabel again when it is"
        )
    common.failed(list(done.problems[:_TOLD]))
    if len(done.problems) > _TOLD:
        common.note(f"{len(done.problems) - _TOLD} more outputs could not be written")
