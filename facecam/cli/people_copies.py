"""``facecam people backup, restore, migrate, consent``: keeping the gallery whole, of this model, and honest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import AS_JSON, agreed, count, erased_facts, erased_too, open_gallery, print_json
from facecam.errors import UsageFault
from facecam.people.names import escaped
from facecam.settings import Settings, home

if TYPE_CHECKING:
    from facecam.people.carry import Lack


@click.command(epilog="Example: facecam people backup gallery-backup.db")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@AS_JSON
@click.pass_context
def backup(ctx: click.Context, file: Path, overwrite: bool, as_json: bool) -> None:
    """Copy the whole gallery to FILE, also while facecam runs.

    An encrypted gallery stays encrypted in the copy. facecam remembers where the copy is: people whom you
    remove later are removed from it, too, as long as it stays there.
    """
    from facecam.people.backup import back_up

    with open_gallery() as gallery:
        if not gallery.path.exists():
            raise UsageFault("there is no gallery yet, so there is nothing to back up (facecam enroll)")
        done = back_up(gallery, file, replace=overwrite)
    if as_json or ctx.obj:
        print_json({"file": str(done.path), **{key: value for key, value in asdict(done).items() if key != "path"}})
    else:
        click.echo(
            f"{count(done.people, 'person', 'people')} with {count(done.samples, 'sample')} copied to "
            f"{escaped(str(done.path))} ({done.bytes} bytes). It holds faces: keep it private."
        )
    if not done.remembered:
        common.note(
            "the gallery cannot be written, so it does not remember this backup: whoever is removed later stays in it"
        )


@click.command(epilog="Example: facecam people restore gallery-backup.db")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@click.pass_context
def restore(ctx: click.Context, file: Path | None, yes: bool, as_json: bool) -> int:
    """Put the backup FILE in the gallery's place; without FILE the last good copy that facecam keeps by itself.

    The backup is checked first. The present gallery, damaged or not, is kept aside.
    """
    from facecam.people import backup as copies
    from facecam.people import files

    path = home() / "gallery.db"
    source = file if file is not None else copies.newest(path)
    if not yes and source.exists():
        question = f"Put {escaped(str(source))} of {files.written(source)} in the gallery's place (it is kept aside)?"
        if not agreed(question, "restore"):
            click.echo("The gallery was kept.", err=True)
            return 1
    done = copies.restore(path, source)
    if as_json or ctx.obj:
        print_json(
            {
                "source": str(done.source),
                "people": done.people,
                "samples": done.samples,
                "aside": None if done.aside is None else str(done.aside),
                "damaged": done.damaged,
            }
        )
        return 0
    click.echo(
        f"{count(done.people, 'person', 'people')} with {count(done.samples, 'sample')} restored from "
        f"{escaped(str(done.source))}."
    )
    if done.aside is not None:
        what = "The damaged gallery" if done.damaged else "The gallery as it was"
        click.echo(f"{what} is kept as {escaped(str(done.aside))}; delete it when you do not need it.")
    return 0


@click.command(epilog="Example: facecam models use opencv && facecam people migrate")
@click.option("--drop-old", is_flag=True, help="In the end delete the vectors of other models.")
@AS_JSON
@setting_options("device", "pack", "model", "threads")
@click.pass_context
def migrate(ctx: click.Context, drop_old: bool, as_json: bool, settings: Settings) -> int:
    """After a change of the model: make everybody's vectors anew from the kept crops.

    It can be interrupted and called again: it goes on where it was. Vectors of the earlier model stay, so
    that going back costs nothing, until --drop-old deletes them.
    """
    from facecam.people import carry

    as_json = as_json or bool(ctx.obj)
    with open_gallery() as gallery:
        if not gallery.people() and not gallery.path.exists():
            raise UsageFault("nobody is enrolled yet, so there is nothing to migrate (facecam enroll)")
        engine = common.open_engine(settings)
        if not engine.enrols:
            raise UsageFault(f"{settings.model} is a classifier: it has no vectors that people could be enrolled with")
        from facecam.reembedding import reembed

        done = reembed(gallery, engine.embedder)
        lost = [person.name for person in gallery.people() if engine.embedder.space not in person.spaces]
        dropped, erased = (0, None) if not drop_old or lost else carry.drop_others(gallery, engine.embedder.space)
    if as_json:
        print_json({**asdict(done), "space": engine.embedder.space, "dropped": dropped, "lost": lost})
    else:
        click.echo(
            f"{count(done.samples, 'sample')} and {count(done.strangers, 'unknown person', 'unknown people')} embedded "
            f"by the model in use (space {engine.embedder.space})"
        )
        _tell(done.left, done.unreadable)
        if dropped:
            click.echo(f"{count(dropped, 'vector')} of other models deleted")
    for name in lost:
        click.echo(f"facecam: {escaped(name)} has no usable crop: enrol them again (facecam enroll)", err=True)
    if lost and drop_old:
        click.echo("facecam: vectors of other models were kept, since some people have no others", err=True)
    return max(1 if lost else 0, 0 if erased is None else erased_too(erased, "the old vectors", quiet=as_json))


def _tell(left: Lack, unreadable: int) -> None:
    for name, samples in left.cropless.items():
        click.echo(f"{escaped(name)}: {count(samples, 'sample')} without a crop stay with the earlier model")
    if left.strangers_cropless:
        click.echo(f"{count(left.strangers_cropless, 'unknown person', 'unknown people')} have no picture to embed")
    if left.negatives:
        click.echo(f"{count(left.negatives, 'rejected picture')}: reject them again (facecam people reject)")
    if unreadable:
        click.echo(f"{count(unreadable, 'crop')} could not be decoded")


@click.command(epilog='Example: facecam people consent Ada --note "signed the form of 30 January" --date 2026-01-30')
@click.argument("name")
@click.option("--note", metavar="TEXT", help="What they agreed to, in your words.")
@click.option("--date", metavar="DATE", help="On which day, like 2026-01-30; default: today.")
@click.option("--withdrawn", is_flag=True, help="Delete the note. To delete the person: facecam people remove.")
@AS_JSON
@click.pass_context
def consent(ctx: click.Context, name: str, note: str | None, date: str | None, withdrawn: bool, as_json: bool) -> int:
    """Note what a person agreed to, and when; without an option show it. It is exported with the person."""
    if withdrawn and (note or date):
        raise click.UsageError("--withdrawn deletes the note; it takes no other option")
    if date and not note:
        raise click.UsageError("--date comes with --note")
    as_json = as_json or bool(ctx.obj)
    erased = None
    with open_gallery() as gallery:
        if withdrawn:
            person, erased = gallery.withdraw_consent(name)
        elif note is not None:
            person = gallery.set_consent(name, note, date)
        else:
            person = gallery.person(name)
    if as_json:
        facts = {"name": person.name, "consent": None if person.consent is None else asdict(person.consent)}
        print_json(facts if erased is None else {**facts, **erased_facts(erased)})
    elif person.consent is None:
        click.echo(f"{escaped(person.name)}: no consent is noted")
    else:
        click.echo(f"{escaped(person.name)}: {escaped(person.consent.note)} ({person.consent.date})")
    return 0 if erased is None else erased_too(erased, f"the note on {escaped(person.name)}", quiet=as_json)


#: Registered by `facecam.cli.people`.
COMMANDS: tuple[Any, ...] = (backup, restore, migrate, consent)
