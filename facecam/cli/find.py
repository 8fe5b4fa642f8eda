"""facecam find: where somebody appears in an archive."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import AS_JSON, count, print_json, rounded, table
from facecam.errors import NoFaceFound, PersonNotFound, UsageFault
from facecam.people.names import escaped, quoted
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.archive.index import ArchiveIndex
    from facecam.archive.search import Hit, Stranger

#: What --csv prints, and the keys of --json.
COLUMNS = ("source", "kind", "track", "name", "unknown", "start", "end", "similarity")


@click.command(
    epilog='Examples: facecam find "Ada Lovelace" --index archive.db; facecam find --photo stranger.jpg',
    short_help="Find who appears where in an archive.",
)
@click.argument("name", required=False)
@click.option("--photo", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Who looks like this?")
@click.option("--unknown", is_flag=True, help="List the unknown people.")
@click.option(
    "--index", default="archive.db", show_default=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="The archive index that facecam label --index made.",
)  # fmt: skip
@click.option(
    "--sheet", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="With --unknown: draw them."
)
@click.option("--overwrite", is_flag=True, help="Replace the sheet if it exists.")
@click.option("--largest", is_flag=True, help="Of several faces in the photo, take the largest.")
@AS_JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of text.")
@setting_options("threshold", "device", "pack", "threads")
def find(
    name: str | None, photo: Path | None, unknown: bool, index: Path, sheet: Path | None, overwrite: bool,
    largest: bool, as_json: bool, as_csv: bool, settings: Settings,
) -> int:  # fmt: skip
    """List every appearance of NAME (or of "Unknown 12"), of whoever a photo shows, or all unknown people.

    Files are as they were named to facecam label; times are seconds from a video's first frame.
    """
    if (name is not None) + (photo is not None) + unknown != 1:
        raise UsageFault("find takes a NAME, or --photo FILE, or --unknown")
    if as_json and as_csv:
        raise UsageFault("--json and --csv exclude each other")
    if sheet is not None and not unknown:
        raise UsageFault("--sheet draws unknown people; add --unknown")
    from facecam.archive.index import ArchiveIndex

    with ArchiveIndex.open(index) as opened:
        if unknown:
            return _strangers(opened, sheet, overwrite, as_json, as_csv)
        hits = _alike(opened, photo, largest, settings) if photo is not None else _named(opened, str(name))
        if as_json:
            print_json(rounded([{key: getattr(hit, key) for key in COLUMNS} for hit in hits]))
        elif as_csv:
            _print_csv(COLUMNS, [[_cell(getattr(hit, key)) for key in COLUMNS] for hit in hits])
        else:
            _print(hits, who=photo is not None)
    return 0


def _named(index: ArchiveIndex, name: str) -> list[Hit]:
    from facecam.archive.search import find_name, find_number
    from facecam.people.strangers import unknown_number

    hits = find_name(index, name)
    if not hits:
        try:
            hits = find_number(index, unknown_number(name))
        except UsageFault:
            hits = []
    if not hits:
        raise PersonNotFound(
            f"{quoted(name)} appears nowhere in {escaped(str(index.path.name))}; after enrolling somebody run: "
            f"facecam relabel --index {escaped(str(index.path.name))}"
        )
    return hits


def _alike(index: ArchiveIndex, photo: Path, largest: bool, settings: Settings) -> list[Hit]:
    from facecam.archive.search import find_alike
    from facecam.archive.study import look
    from facecam.video.photos import read_photo

    engine = common.open_engine(settings)
    if not engine.enrols:
        raise UsageFault("find --photo needs an embedder; the model in use is a classifier")
    looks = look(read_photo(photo), engine, pictures=False)
    if not looks:
        raise NoFaceFound(f"{escaped(str(photo))}: shows no face")
    if len(looks) > 1 and not largest:
        raise NoFaceFound(f"{escaped(str(photo))}: shows {len(looks)} faces; cut one out, or add --largest")
    part = max(looks, key=lambda entry: entry.face.size).part
    threshold = engine.threshold if settings.threshold is None else settings.threshold
    hits, others = find_alike(index, part.views[0], engine.embedder.space, threshold, engine.likeness)
    if others:
        common.note(f"{count(others, 'file')} of the index were analysed by another model and not compared")
    return hits


def _print(hits: list[Hit], who: bool) -> None:
    head = ["FILE", "FROM", "TO", "SIMILARITY", "TRACK"] + (["WHO"] if who else [])
    rows = [
        [
            hit.source,
            _time(hit.start),
            _time(hit.end),
            "" if hit.similarity is None else f"{hit.similarity:.3f}",
            str(hit.track),
            *([hit.who] if who else []),
        ]
        for hit in hits
    ]
    if rows:
        table(head, rows)
    files = len({hit.source for hit in hits})
    click.echo(f"{count(len(hits), 'appearance')} in {count(files, 'file')}")


def _time(seconds: float | None) -> str:
    """Hours, minutes and seconds, for people."""
    if seconds is None:
        return ""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{seconds - whole // 60 * 60:04.1f}"


def _cell(value: Any) -> Any:
    """A spreadsheet must not run a name as a formula."""
    if isinstance(value, str):
        return "'" + value if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    return round(value, 4) if isinstance(value, float) else "" if value is None else value


def _print_csv(columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def _strangers(index: ArchiveIndex, sheet: Path | None, overwrite: bool, as_json: bool, as_csv: bool) -> int:
    from facecam.archive.search import strangers

    found = strangers(index)
    drawn = _draw(found, sheet, overwrite) if sheet is not None else 0
    rows = [{k: v for k, v in asdict(who).items() if k != "portrait"} | {"name": who.name} for who in found]
    if as_json:
        print_json(rounded(rows))
    elif as_csv:
        keys = ("name", "number", "files", "times", "seconds")
        _print_csv(keys, [[row[key] for key in keys] for row in rows])
    else:
        if found:
            cells = [[w.name, str(w.times), str(w.files), f"{w.seconds:.1f} s"] for w in found]
            table(("NAME", "TIMES", "FILES", "ON SCREEN"), cells)
        click.echo(count(len(found), "unknown person", "unknown people"))
        if sheet is not None:
            click.echo(
                f"wrote {escaped(str(sheet))} with {count(drawn, 'person', 'people')}. It shows faces: keep it private."
            )
    return 0


def _draw(found: list[Stranger], sheet: Path, overwrite: bool) -> int:
    """Write the contact sheet of those seen most often; how many it shows."""
    if not found:
        raise UsageFault("nobody unknown is in the index, so there is no sheet to draw")
    common.import_cv2()
    from facecam.people.records import Unknown
    from facecam.people.sheet import MOST, contact_sheet
    from facecam.video.photos import write_photo

    shown = found[:MOST]
    tiles = [(Unknown(who.number, "", "", "", who.times, 0, ()), who.portrait) for who in shown]
    write_photo(sheet, contact_sheet(tiles), overwrite=overwrite)
    return len(shown)
