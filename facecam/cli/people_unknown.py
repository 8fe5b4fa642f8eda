"""``facecam people unknown, name, forget``: people without a name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import AS_JSON, agreed, count, erased_facts, erased_too, open_gallery, print_json, table
from facecam.errors import UsageFault
from facecam.people.names import escaped
from facecam.settings import Settings, seconds_of

if TYPE_CHECKING:
    from facecam.people.gallery import Gallery
    from facecam.people.records import Unknown


@click.command(epilog='Example: facecam people unknown --sheet strangers.png && facecam people name "Unknown 12" Ada')
@click.option("--remember", type=click.Choice(("on", "off")), help="From the next run on, keep unknown people or not.")
@click.option("--merge", is_flag=True, help="Make one of unknown people who resemble each other.")
@click.option("--sheet", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Draw their pictures.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@AS_JSON
@setting_options("threshold", "device", "pack", "threads", "forget_unknown_after")
@click.pass_context
def unknown(
    ctx: click.Context,
    remember: str | None,
    merge: bool,
    sheet: Path | None,
    overwrite: bool,
    as_json: bool,
    settings: Settings,
) -> int:
    """List the unknown people that facecam remembers: who, how often, when.

    Nobody is remembered until you turn it on (--remember on): they did not agree to it. Templates and one
    small picture of each are kept; facecam people forget deletes them.
    """
    from facecam.people import strangers

    as_json = as_json or bool(ctx.obj)
    status = 0
    with open_gallery(create=remember == "on") as gallery:
        if remember is not None and (remember == "on") != strangers.remembers(gallery):
            strangers.remember(gallery, remember == "on")
        if settings.forget_unknown_after is not None:
            old = strangers.forget_older(gallery, seconds_of(settings.forget_unknown_after))
            status = erased_too(old, "unknown people", quiet=as_json)
            if old.numbers and not as_json:
                gone = count(len(old.numbers), "unknown person", "unknown people")
                click.echo(f"{gone} deleted: nobody saw them for {settings.forget_unknown_after}")
        merged = []
        if merge and strangers.everyone(gallery):
            engine = common.open_engine(settings)
            threshold = engine.threshold if settings.threshold is None else settings.threshold
            merged = strangers.merge(gallery, engine.embedder.space, threshold)
        everyone, on = strangers.everyone(gallery), strangers.remembers(gallery)
        drawn = _draw(gallery, everyone, sheet, overwrite) if sheet is not None else 0
    if as_json:
        print_json(
            {
                "remember": on,
                "merged": [{"into": m.number, "numbers": list(m.merged)} for m in merged],
                "unknown": [{"name": who.name, **asdict(who)} for who in everyone],
            }
        )
        return status
    for m in merged:
        others = " and ".join(strangers.unknown_name(number) for number in m.merged)
        click.echo(f"{others} {'is' if len(m.merged) == 1 else 'are'} {strangers.unknown_name(m.number)}")
    if everyone:
        rows = [[w.name, str(w.seen), w.first_seen, w.last_seen, w.source, _also(w)] for w in everyone]
        table(("NAME", "SEEN", "FIRST", "LAST", "LAST IN", "ALSO"), rows)
    else:
        click.echo("Nobody unknown is remembered.")
    click.echo(
        "Unknown people are remembered (--remember off stops it; facecam people forget deletes them)."
        if on
        else "Unknown people are not remembered from run to run (--remember on turns it on)."
    )
    if drawn:
        click.echo(
            f"wrote {escaped(str(sheet))} with {count(drawn, 'person', 'people')}. It shows faces: keep it private."
        )
    return status


def _also(who: Unknown) -> str:
    return ", ".join(map(str, who.also[:5])) + (" ..." if len(who.also) > 5 else "")


def _draw(gallery: Gallery, everyone: list[Unknown], sheet: Path, overwrite: bool) -> int:
    """Write the contact sheet of those seen most often; how many it shows."""
    if not everyone:
        raise UsageFault("nobody unknown is remembered, so there is no sheet to draw")
    common.import_cv2()
    from facecam.people import strangers
    from facecam.people.sheet import MOST, contact_sheet
    from facecam.video.photos import write_photo

    shown = sorted(everyone, key=lambda who: (-who.seen, who.number))[:MOST]
    write_photo(sheet, contact_sheet([(w, strangers.portrait(gallery, w.number)) for w in shown]), overwrite=overwrite)
    return len(shown)


@click.command(epilog='Example: facecam people name "Unknown 12" "Ada Lovelace"')
@click.argument("unknown")
@click.argument("name")
@click.option(
    "--index",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An archive index that has them: its files are relabelled.",
)
@AS_JSON
@setting_options("device", "pack", "threads")
@click.pass_context
def name(ctx: click.Context, unknown: str, name: str, index: Path | None, as_json: bool, settings: Settings) -> int:
    """Give an unknown person a name, or add what was seen of them to a person of that name."""
    from facecam.people import strangers

    number = strangers.unknown_number(unknown)
    with open_gallery(create=index is not None) as gallery:
        if index is None:
            strangers.resolve(gallery, number)  # where there is no gallery yet, nobody is remembered
            added = strangers.name(gallery, number, name)
        else:
            from facecam.archive.index import ArchiveIndex
            from facecam.archive.relabel import enrol_unknown

            with ArchiveIndex.open(index) as opened:
                added = enrol_unknown(opened, gallery, number, name)
    if as_json or ctx.obj:
        print_json({"unknown": number, "name": added.name, "new": added.new_person})
    else:
        what = "is now called" if added.new_person else "is now part of"
        click.echo(f"{strangers.unknown_name(number)} {what} {escaped(added.name)}")
    if index is not None:
        from facecam.cli.relabel import relabelled

        return 1 if relabelled(index, settings, quiet=as_json or bool(ctx.obj)).problems else 0
    return 0


@click.command(epilog='Example: facecam people forget "Unknown 12" -y')
@click.argument("unknown", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Forget every unknown person.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@click.pass_context
def forget(ctx: click.Context, unknown: tuple[str, ...], everybody: bool, yes: bool, as_json: bool) -> int:
    """Delete unknown people for good: templates and pictures."""
    from facecam.people import strangers
    from facecam.people.records import Forgotten

    if bool(unknown) == everybody:
        raise click.UsageError('name unknown people ("Unknown 12"), or give --all')
    numbers = None if everybody else [strangers.unknown_number(text) for text in unknown]
    with open_gallery() as gallery:
        targets = (
            [who.number for who in strangers.everyone(gallery)]
            if numbers is None
            else sorted({strangers.resolve(gallery, number) for number in numbers})
        )
        shown = ", ".join(map(strangers.unknown_name, targets[:5])) + (" ..." if len(targets) > 5 else "")
        if targets and not yes and not agreed(f"Delete {shown} for good?", "forget"):
            click.echo(f"{shown} {'was' if len(targets) == 1 else 'were'} kept.", err=True)
            return 1
        done = strangers.forget(gallery, targets) if targets else Forgotten(())
    as_json = as_json or bool(ctx.obj)
    if as_json:
        print_json({"forgotten": list(done.numbers), **erased_facts(done)})
    elif done.numbers:
        click.echo(f"{count(len(done.numbers), 'unknown person', 'unknown people')} deleted: {shown}")
    else:
        click.echo("Nobody unknown is remembered.")
    return erased_too(done, "unknown people", quiet=as_json)


#: Registered by `facecam.cli.people`.
COMMANDS: tuple[Any, ...] = (unknown, name, forget)
