"""``facecam people``: list, show, rename, merge, remove, export and import people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.cli import people_copies, people_encryption, people_faults, people_unknown
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import AS_JSON, agreed, count, erased_facts, erased_too, open_gallery, print_json, table
from facecam.people.names import escaped, lookup_name
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.people.gallery import Gallery, Person
    from facecam.people.records import Removed


def _facts(person: Person) -> dict[str, Any]:
    return {
        "name": person.name,
        "samples": person.samples,
        "crops": person.crops,
        "created": person.created,
        "updated": person.updated,
        "spaces": list(person.spaces),
        "consent": None if person.consent is None else asdict(person.consent),
    }


@click.group(invoke_without_command=True, epilog="Example: facecam people list --json")
@AS_JSON
@click.pass_context
def people(ctx: click.Context, as_json: bool) -> None:
    """List, check, rename, merge, remove, export, import, back up and encrypt people; unknown people, too.

    Without a command: list.
    """
    ctx.obj = as_json
    ctx.default_map = {name: ctx.default_map for name in people.commands}  # config.toml holds for each of them
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, as_json=as_json)


@people.command("list", epilog="Example: facecam people list")
@AS_JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List everybody who is enrolled."""
    with open_gallery() as gallery:
        everybody = gallery.people()
    if as_json or ctx.obj:
        print_json([_facts(person) for person in everybody])
    elif not everybody:
        click.echo("Nobody is enrolled yet. Enrol somebody: facecam enroll --name NAME PHOTOS")
    else:
        rows = [[p.name, str(p.samples), str(p.crops), p.created[:10], p.updated[:10]] for p in everybody]
        table(("NAME", "SAMPLES", "CROPS", "CREATED", "UPDATED"), rows)


@people.command(epilog='Example: facecam people show "Ada Lovelace"')
@click.argument("name")
@AS_JSON
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show one person and what they were enrolled from."""
    with open_gallery() as gallery:
        person, samples, negatives = gallery.person(name), gallery.samples(name), gallery.negatives_of(name)
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
        rejected = [{"source": n.source, "created": n.created, "digest": n.digest} for n in negatives]
        print_json({**_facts(person), "pictures": pictures, "negatives": rejected})
        return
    click.echo(f"{escaped(person.name)}: {count(person.samples, 'sample')}, {count(person.crops, 'crop')} kept")
    click.echo(f"enrolled {person.created}, changed {person.updated}, model space {', '.join(person.spaces)}")
    agreed_to = "none noted" if person.consent is None else f"{escaped(person.consent.note)} ({person.consent.date})"
    click.echo(f"consent: {agreed_to}\n")
    rows = [
        [s.source, f"{s.quality:.2f}", s.created, f"{s.crop_bytes} bytes" if s.crop_bytes else "none", s.digest[:12]]
        for s in samples
    ]
    table(("SOURCE", "QUALITY", "ENROLLED", "CROP", "DIGEST"), rows)
    if negatives:
        click.echo(f"\nnot {escaped(person.name)}, as facecam people reject was told:\n")
        table(("SOURCE", "REJECTED", "DIGEST"), [[n.source, n.created, n.digest[:12]] for n in negatives])


@people.command(epilog='Example: facecam people rename Ada "Ada Lovelace"')
@click.argument("old")
@click.argument("new")
@AS_JSON
@click.pass_context
def rename(ctx: click.Context, old: str, new: str, as_json: bool) -> None:
    """Give a person another name."""
    with open_gallery() as gallery:
        person = gallery.rename(old, new)
    if as_json or ctx.obj:
        print_json(_facts(person))
    else:
        click.echo(f"{escaped(old)} is now called {escaped(person.name)}.")


@people.command(epilog='Example: facecam people merge Ada "Ada Lovelace"')
@click.argument("source")
@click.argument("target")
@AS_JSON
@click.pass_context
def merge(ctx: click.Context, source: str, target: str, as_json: bool) -> None:
    """Make one person of two: SOURCE's samples become TARGET's."""
    with open_gallery() as gallery:
        merged = gallery.merge(source, target)
        person = gallery.person(merged.target)
    if as_json or ctx.obj:
        print_json({**_facts(person), "moved": merged.moved, "duplicates": merged.duplicates})
    else:
        known = f"; {merged.duplicates} there already" if merged.duplicates else ""
        click.echo(
            f"{escaped(source)} is now part of {escaped(person.name)}: {count(merged.moved, 'sample')} moved{known}."
        )


@people.command(epilog="Example: facecam people remove Ada -y; facecam people remove Ada --index archive.db")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--index", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Take the person out of this archive index, too.",
)  # fmt: skip
@AS_JSON
@setting_options("device", "pack", "model", "threads")
@click.pass_context
def remove(
    ctx: click.Context, name: str, yes: bool, index: Path | None, as_json: bool, settings: Settings
) -> int:  # fmt: skip
    """Delete a person for good: name, vectors and crops.

    The database is rewritten so that nothing of the person stays in its files. Copies of it that facecam
    keeps are deleted, and your backups (facecam people backup) are made anew without the person. Your own
    photos, labelled files and exports stay.

    With --index, which may be given for somebody who is in the gallery no more, the templates and pictures of all
    tracks that carry the name are deleted from the archive index, and its sightings and reports are written anew.
    """
    quiet = bool(as_json or ctx.obj)
    with open_gallery() as gallery:
        person = None if index is not None and not _has(gallery, name) else gallery.person(name)
        shown = escaped(name if person is None else person.name)
        what = f"{count(person.samples, 'sample')} and {count(person.crops, 'crop')}" if person else "what was seen"
        if not yes and not agreed(f"Delete {shown} with {what} for good?", "remove"):
            click.echo(f"{shown} was kept.", err=True)
            return 1
        code = 0
        removed: Removed | None = None
        if index is None:
            removed = gallery.remove(name)
        else:
            from facecam.cli.relabel import forgotten

            code, removed = forgotten(index, lookup_name(name), gallery, settings, quiet=quiet)
    if removed is None:
        if quiet:
            print_json(
                {"name": name, "samples": 0, "crops": 0, "backups": [], "renewed": [], "stale": [], "problem": None}
            )
        return code
    if quiet:
        print_json(
            {
                "name": removed.name,
                "samples": removed.samples,
                "crops": removed.crops,
                **erased_facts(removed),
            }
        )
    else:
        click.echo(
            f"{shown} was deleted: {count(removed.samples, 'sample')} and {count(removed.crops, 'crop')} are gone."
        )
    return max(code, erased_too(removed, shown, quiet=quiet))


def _has(gallery: Gallery, name: str) -> bool:
    return any(person.name == lookup_name(name) for person in gallery.people())


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
@AS_JSON
@click.pass_context
def export(
    ctx: click.Context, names: tuple[str, ...], output: Path, no_crops: bool, overwrite: bool, as_json: bool
) -> None:
    """Write the people NAMES, or everybody, to a file that facecam people import takes."""
    from facecam.people.exchange import export_people

    with open_gallery() as gallery:
        done = export_people(gallery, names or None, output, not no_crops, overwrite=overwrite)
    if as_json or ctx.obj:
        print_json({"file": str(output), "people": done.people, "samples": done.samples, "crops": done.crops})
    else:
        click.echo(
            f"{count(done.people, 'person', 'people')} with {count(done.samples, 'sample')} and "
            f"{count(done.crops, 'crop')} written to {escaped(str(output))}. It holds faces: keep it private."
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
@AS_JSON
@click.pass_context
def import_(ctx: click.Context, file: Path, on_conflict: str, as_json: bool) -> None:
    """Take in people from a file of facecam people export: everybody in it, or on any fault nobody."""
    from facecam.people.exchange import take_in
    from facecam.people.incoming import read_people

    newcomers = read_people(file)  # before a gallery is made for them
    with open_gallery(create=True) as gallery:
        done = take_in(gallery, newcomers, on_conflict)
    if as_json or ctx.obj:
        print_json(
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
        click.echo(f"{count(len(done.added), 'person', 'people')} with {count(samples, 'new sample')} imported.")
        for old, new in done.renamed:
            click.echo(f"{escaped(old)} was imported as {escaped(new)}.")
        for name in done.skipped:
            click.echo(f"{escaped(name)} was skipped: there is a person of that name (--on-conflict merge or rename).")
    for added in done.added:
        for source, other in added.elsewhere:
            click.echo(
                f"facecam: {escaped(source)} of {escaped(added.name)} is enrolled as {escaped(other)}, too", err=True
            )


for _command in (
    *people_faults.COMMANDS,
    *people_unknown.COMMANDS,
    *people_copies.COMMANDS,
    *people_encryption.COMMANDS,
):
    people.add_command(_command)
