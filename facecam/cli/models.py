"""``facecam models``: list, pull, add, use, verify."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.errors import GalleryError, ModelInvalid, UsageFault
from facecam.settings import home

if TYPE_CHECKING:
    from facecam.zoo.download import Progress
    from facecam.zoo.intake import Status
    from facecam.zoo.packs import Choice, Zoo

_AS_JSON: Callable[..., Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_STATES = {"installed": "installed", "ready": "comes with pip", "absent": "not installed", "damaged": "damaged"}


def _zoo() -> Zoo:
    from facecam.zoo.packs import Zoo

    return Zoo(home(), notify=lambda line: click.echo(f"facecam: {line}", err=True))


@click.group(invoke_without_command=True, epilog="Example: facecam models list --json")
@_AS_JSON
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List, pull, add, choose and verify models.

    Without a command: list.
    """
    ctx.obj = as_json
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, as_json=as_json)


@models.command("list", epilog="Example: facecam models list")
@_AS_JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List packs and models: role, licence, size, installed or not, source, measured accuracy."""
    from facecam.zoo import intake, registry

    zoo = _zoo()
    try:
        active: Choice | None = zoo.active()
        trouble = None
    except ModelInvalid as error:
        active, trouble = None, str(error)
    statuses = intake.statuses(zoo)
    states = {status.id: status.state for status in statuses}
    packs = [
        {
            "name": pack.name,
            "detector": pack.detector,
            "landmarks": pack.landmarks,
            "embedder": pack.embedder,
            "installed": all(states[id] in ("installed", "ready") for id in pack.members()),
            "in_use": active is not None and active.name == pack.name,
            "summary": pack.summary,
        }
        for pack in registry.packs().values()
    ]
    if as_json or ctx.obj:
        _print_json(
            {
                "schema": "facecam.models/1",
                "in_use": None if active is None else {"name": active.name, **_parts(active)},
                "packs": packs,
                "models": [_facts(status) for status in statuses],
            }
        )
        return
    rows = [
        (
            "*" if pack["in_use"] else "",
            str(pack["name"]),
            "installed" if pack["installed"] else "not installed",
            str(pack["summary"]),
        )
        for pack in packs
    ]
    if active is not None and not any(pack["in_use"] for pack in packs):
        rows.append(("*", active.name, "", "your own combination"))
    click.echo("Packs (* in use)")
    _table(rows)
    click.echo("\nModels")
    used = set(active.members()) if active else set()
    _table([("", "id", "role", "licence", "size", "state", "LFW", "source"), *(_row(s, used) for s in statuses)])
    if trouble:
        click.echo(f"facecam: {trouble}", err=True)


def _row(status: Status, used: set[str]) -> tuple[str, ...]:
    return (
        "*" if status.id in used else "",
        status.id,
        status.role,
        status.licence,
        _size(status.bytes),
        _STATES[status.state],
        "-" if status.lfw is None else f"{status.lfw:.3f}",
        status.source.split("/tree/")[0],  # --json has the pinned address
    )


def _facts(status: Status) -> dict[str, Any]:
    card = status.card
    return {
        "id": status.id,
        "role": status.role,
        "licence": status.licence,
        "source": status.source,
        "about": status.about,
        "bytes": status.bytes,
        "state": status.state,
        "installed": status.state in ("installed", "ready"),
        "added": status.added,
        "lfw": status.lfw,
        "path": None if status.path is None else str(status.path),
        "space": None if card is None else card.space,
        "threshold": None if card is None or card.threshold is None else card.threshold.value,
    }


@models.command(epilog="Example: facecam models pull opencv")
@click.argument("pack")
def pull(pack: str) -> None:
    """Download what PACK (or one model) lacks, check it, and make it ready.

    This is the only command that uses the network. An interrupted download is continued.
    """
    from facecam.cli import progress
    from facecam.zoo import registry

    with contextlib.ExitStack() as bars:

        def begin(name: str) -> Progress:
            bars.close()  # one bar at a time
            click.echo(f"facecam: downloading {name}", err=True)
            update = bars.enter_context(progress.bar(name, "kB"))
            return lambda done, total: update(done // 1000, total // 1000)

        files = _zoo().pull(pack, begin)
    click.echo(f"{pack}: {', '.join(file.id for file in files)} installed")
    if pack in registry.packs() and _zoo().active().name != pack:
        click.echo(f"To use it from now on: facecam models use {pack}")


@models.command(epilog="Example: facecam models add my-embedder.onnx")
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@click.option("--name", metavar="NAME", help="What to call it; default: the name in its card.")
@click.option("--replace", is_flag=True, help="Replace a model that was added under that name.")
def add(file: Path, name: str | None, replace: bool) -> None:
    """Add a model FILE (ONNX, with its card inside), or a downloaded file of a known pack."""
    from facecam.zoo import intake

    status = intake.add(_zoo(), file, name=name, replace=replace)
    click.echo(f"{status.id}: {status.role} added ({_size(status.bytes)}, {_plain(status.licence)})")
    if status.role in ("detector", "embedder"):
        click.echo(f"To use it from now on: facecam models use --{status.role} {status.id}")


@models.command(epilog="Examples: facecam models use opencv; facecam models use --detector yunet --embedder dlib")
@click.argument("pack", required=False)
@click.option("--detector", metavar="NAME", help="Take the detector from this pack or model.")
@click.option("--embedder", metavar="NAME", help="Take the embedder from this pack or model.")
def use(pack: str | None, detector: str | None, embedder: str | None) -> None:
    """Put PACK in use from now on, or exchange a part of the one in use."""
    zoo = _zoo()
    chosen = zoo.use(pack, detector=detector, embedder=embedder)
    click.echo(f"in use: {chosen.name} ({', '.join(chosen.members())})")
    _warn_of_gallery(zoo.model(chosen.embedder).card.space or "")


def _warn_of_gallery(space: str) -> None:
    """Say so when the people enrolled so far cannot be recognised by the new embedder."""
    from facecam.people.gallery import Gallery

    try:
        with Gallery.open(create=False) as gallery:
            gallery.check_space(space)
    except GalleryError as error:
        click.echo(f"facecam: note: {error}", err=True)


@models.command(epilog="Example: facecam models verify --json")
@_AS_JSON
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Hash every model file that is here and compare; exit code 13 if one is wrong."""
    from facecam.zoo import intake

    verdicts = intake.verify(_zoo())
    if as_json or (ctx.parent and ctx.parent.params.get("as_json")):
        rows = [
            {"id": v.id, "path": None if v.path is None else str(v.path), "state": v.state, "detail": v.detail}
            for v in verdicts
        ]
        _print_json({"schema": "facecam.verify/1", "ok": all(v.good for v in verdicts), "files": rows})
    else:
        _table([(v.id, v.state, v.path.name if v.path else "", v.detail) for v in verdicts if v.state != "absent"])
    bad = [v for v in verdicts if not v.good]
    if bad:
        raise ModelInvalid(f"{len(bad)} model file(s) damaged or missing; {bad[0].id}: {bad[0].detail}")


@models.command(epilog="Example: facecam models path")
@click.argument("name", required=False, metavar="[ID]")
def path(name: str | None) -> None:
    """Print the folder of the models, or the file of one."""
    from facecam.zoo import intake

    zoo = _zoo()
    if name is None:
        click.echo(str(zoo.folder))
        return
    found = {status.id: status for status in intake.statuses(zoo)}
    if name not in found:
        raise UsageFault(f"no model is called {name!r}; there are {', '.join(found)}: facecam models")
    click.echo(str(zoo.model(name).path))


def _parts(choice: Choice) -> dict[str, str | None]:
    return {"detector": choice.detector, "landmarks": choice.landmarks, "embedder": choice.embedder}


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _plain(text: str) -> str:
    from facecam.people.names import escaped

    return escaped(text)  # a card's texts are a stranger's: no control characters on the terminal


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns; nothing is cut off."""
    shown = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))] if shown else []
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
