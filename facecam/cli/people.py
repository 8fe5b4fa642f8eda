"""``facecam people``: list, show, rename, merge, remove, export and import people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.errors import UsageFault
from facecam.people.names import escaped

if TYPE_CHECKING:
    from facecam.people.gallery import Gallery, Person

_AS_JSON: Callable[..., Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def _gallery(create: bool = False) -> Gallery:
    from facecam.people.gallery import Gallery  # numpy and sqlite3: not for --help

    return Gallery.open(create=create)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, aligned by the cells that a terminal gives each text; nothing is cut off."""
    from rich.cells import cell_len

    lines = [head, *([escaped(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _facts(person: Person) -> dict[str, Any]:
    return {
        "name": person.name,
        "samples": person.samples,
        "crops": person.crops,
        "created": person.created,
        "updated": person.updated,
        "spaces": list(person.spaces),
    }


@click.group(invoke_without_command=True, epilog="Example: facecam people list --json")
@_AS_JSON
@click.pass_context
def people(ctx: click.Context, as_json: bool) -> None:
    """List, rename, merge, remove, export and import people.

    Without a command: list.
    """
    ctx.obj = as_json
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, as_json=as_json)


@people.command("list", epilog="Example: facecam people list")
@_AS_JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List everybody who is enrolled."""
    with _gallery() as gallery:
        everybody = gallery.people()
    if as_json or ctx.obj:
        _print_json([_facts(person) for person in everybody])
    elif not everybody:
        click.echo("Nobody is enrolled yet. Enrol somebody: facecam enroll --name NAME PHOTOS")
    else:
        rows = [[p.name, str(p.samples), str(p.crops), p.created[:10], p.updated[:10]] for p in everybody]
        _table(("NAME", "SAMPLES", "CROPS", "CREATED", "UPDATED"), rows)


@people.command(epilog='Example: facecam people show "Ada Lovelace"')
@click.argument("name")
@_AS_JSON
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show one person and what they were enrolled from."""
    with _gallery() as gallery:
        person, samples = gallery.person(name), gallery.samples(name)
    if as_json or ctx.obj:
        pictures = [
            {
                "source": sample.source,
                "quality": round(sample.quality, 4),
                "created": sample.created,
                "crop_bytes": sample.crop_bytes,
                "digest": sample.digest,
                "spaces": list(sample.vectors),
            }
            for sample in samples
        ]
        _print_json({**_facts(person), "pictures": pictures})
        return
    click.echo(f"{escaped(person.name)}: {_count(person.samples, 'sample')}, {_count(person.crops, 'crop')} kept")
    click.echo(f"enrolled {person.created}, changed {person.updated}, model space {', '.join(person.spaces)}\n")
    rows = [
        [s.source, f"{s.quality:.2f}", s.created, f"{s.crop_bytes} bytes" if s.crop_bytes else "none", s.digest[:12]]
        for s in samples
    ]
    _table(("SOURCE", "QUALITY", "ENROLLED", "CROP", "DIGEST"), rows)


@people.command(epilog='Example: facecam people rename Ada "Ada Lovelace"')
@click.argument("old")
@click.argument("new")
@_AS_JSON
@click.pass_context
def rename(ctx: click.Context, old: str, new: str, as_json: bool) -> None:
    """Give a person another name."""
    with _gallery() as gallery:
        person = gallery.rename(old, new)
    if as_json or ctx.obj:
        _print_json(_facts(person))
    else:
        click.echo(f"{escaped(old)} is now called {escaped(person.name)}.")


@people.command(epilog='Example: facecam people merge Ada "Ada Lovelace"')
@click.argument("source")
@click.argument("target")
@_AS_JSON
@click.pass_context
def merge(ctx: click.Context, source: str, target: str, as_json: bool) -> None:
    """Make one person of two: SOURCE's samples become TARGET's."""
    with _gallery() as gallery:
        merged = gallery.merge(source, target)
        person = gallery.person(merged.target)
    if as_json or ctx.obj:
        _print_json({**_facts(person), "moved": merged.moved, "duplicates": merged.duplicates})
    else:
        known = f", {merged.duplicates} were there already" if merged.duplicates else ""
        click.echo(
            f"{escaped(source)} is now part of {escaped(person.name)}: {_count(merged.moved, 'sample')} moved{known}."
        )


@people.command(epilog="Example: facecam people remove Ada -y")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_AS_JSON
@click.pass_context
def remove(ctx: click.Context, name: str, yes: bool, as_json: bool) -> int:
    """Delete a person for good: name, vectors and crops.

    The database is rewritten so that nothing of the person stays in its files. Copies that facecam
    made of the gallery before an update hold the person, too, and are deleted as well. Your own
    photos, labelled files and exports stay.
    """
    with _gallery() as gallery:
        person = gallery.person(name)
        shown = escaped(person.name)
        what = f"{_count(person.samples, 'sample')} and {_count(person.crops, 'crop')}"
        if not yes and not _agreed(f"Delete {shown} with {what} for good?"):
            click.echo(f"{shown} was kept.", err=True)
            return 1
        removed = gallery.remove(name)
    if as_json or ctx.obj:
        _print_json(
            {
                "name": removed.name,
                "samples": removed.samples,
                "crops": removed.crops,
                "backups": [str(path) for path in removed.backups],
                "problem": removed.problem,
            }
        )
    else:
        click.echo(
            f"{shown} was deleted: {_count(removed.samples, 'sample')} and {_count(removed.crops, 'crop')} are gone."
        )
        for path in removed.backups:
            click.echo(f"Deleted as well, since it held {shown}: {escaped(str(path))}")
    if removed.problem:
        click.echo(
            f"facecam: traces of {shown} may be left in the gallery's files ({removed.problem}); "
            "they are erased when facecam next opens the gallery",
            err=True,
        )
        return 1
    return 0


def _agreed(question: str) -> bool:
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:
        click.echo(err=True)
        raise UsageFault("remove asks before it deletes, and nobody answered; add -y to delete without asking")
    return answer.strip().lower() in ("y", "yes")


@people.command(epilog="Example: facecam people export Ada Grace -o people.json")
@click.argument("names", nargs=-1)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The JSON file to write.",
)
@click.option("--no-crops", is_flag=True, help="Leave out the pictures; another model cannot use such an export.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@_AS_JSON
@click.pass_context
def export(
    ctx: click.Context, names: tuple[str, ...], output: Path, no_crops: bool, overwrite: bool, as_json: bool
) -> None:
    """Write the people NAMES, or everybody, to a file that facecam people import takes."""
    from facecam.people.exchange import export_people

    with _gallery() as gallery:
        done = export_people(gallery, names or None, output, not no_crops, overwrite=overwrite)
    if as_json or ctx.obj:
        _print_json({"file": str(output), "people": done.people, "samples": done.samples, "crops": done.crops})
    else:
        click.echo(
            f"{_count(done.people, 'person', 'people')} with {_count(done.samples, 'sample')} and "
            f"{_count(done.crops, 'crop')} written to {escaped(str(output))}. It holds faces: keep it private."
        )


@people.command("import", epilog="Example: facecam people import people.json --on-conflict merge")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--on-conflict",
    type=click.Choice(("skip", "merge", "rename")),
    default="skip",
    show_default=True,
    help="For a name that is there already: leave that person, add the samples to them, or import as NAME (2).",
)
@_AS_JSON
@click.pass_context
def import_(ctx: click.Context, file: Path, on_conflict: str, as_json: bool) -> None:
    """Take in people from a file of facecam people export: everybody in it, or on any fault nobody."""
    from facecam.people.exchange import take_in
    from facecam.people.incoming import read_people

    newcomers = read_people(file)  # before a gallery is made for them
    with _gallery(create=True) as gallery:
        done = take_in(gallery, newcomers, on_conflict)
    if as_json or ctx.obj:
        _print_json(
            {
                "people": [
                    {"name": a.name, "new": a.new_person, "added": a.added, "duplicates": len(a.duplicates)}
                    for a in done.added
                ],
                "skipped": list(done.skipped),
                "renamed": dict(done.renamed),
            }
        )
    else:
        samples = sum(a.added for a in done.added)
        click.echo(f"{_count(len(done.added), 'person', 'people')} with {_count(samples, 'new sample')} imported.")
        for old, new in done.renamed:
            click.echo(f"{escaped(old)} was imported as {escaped(new)}.")
        for name in done.skipped:
            click.echo(f"{escaped(name)} was skipped: there is a person of that name (--on-conflict merge or rename).")
    for added in done.added:
        for source, other in added.elsewhere:
            click.echo(
                f"facecam: {escaped(source)} of {escaped(added.name)} is enrolled as {escaped(other)}, too", err=True
            )
