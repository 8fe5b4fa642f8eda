"""What the commands about people share: the gallery, JSON, counts, aligned tables, a question."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from facecam.errors import OutputError, UsageFault
from facecam.people.names import escaped

if TYPE_CHECKING:
    from facecam.people.gallery import Gallery

AS_JSON: Callable[..., Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@contextlib.contextmanager
def open_gallery(create: bool = False) -> Iterator[Gallery]:
    """The gallery in the home; without ``create`` an absent one reads as empty.

    After a change it is copied beside itself (`people.backup.keep_last_good`); if that fails, the command has done its
    work all the same, and says so.
    """
    from facecam.people.backup import keep_last_good
    from facecam.people.gallery import Gallery  # numpy and sqlite3: not for --help

    with Gallery.open(create=create, ask=passphrase_asker()) as gallery:
        say_resumed(gallery)
        before = gallery.version()
        try:
            yield gallery
        finally:
            if gallery.version() not in (before, gallery.store.copied):
                try:
                    keep_last_good(gallery)
                except OutputError as error:
                    click.echo(f"facecam: the gallery was changed, but could not be copied: {error}", err=True)


def say_resumed(gallery: Gallery) -> None:
    """Say on stderr what was erased on opening, of a deletion that had to wait."""
    if gallery.store.resumed is not None:
        erased_too(gallery.store.resumed, "what was deleted before", quiet=False, err=True)


def passphrase_asker() -> Callable[[], str] | None:
    """Asks for the gallery's passphrase, None where nobody could answer."""
    if not sys.stdin.isatty():
        return None
    return lambda: str(click.prompt("Passphrase of the gallery", hide_input=True, err=True))


def print_json(value: Any) -> None:
    """Print a value as indented JSON, Unicode as it is."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def rounded(value: Any) -> Any:
    """The same tables and lists with every float to four decimals."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value


def count(number: int, one: str, many: str | None = None) -> str:
    """ "1 sample", "2 samples"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, aligned by the cells that a terminal gives each text; nothing is cut off."""
    from rich.cells import cell_len

    lines = [head, *([escaped(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def agreed(question: str, command: str) -> bool:
    """Ask on stderr; the answer comes on standard input.

    Raises:
        UsageFault: nobody is there to answer.
    """
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:
        click.echo(err=True)
        raise UsageFault(f"{command} asks first, and nobody answered; add -y to go on without asking")
    return answer.strip().lower() in ("y", "yes")


class _Done(Protocol):
    """What every deletion tells (`people.database.Erased`)."""

    @property
    def backups(self) -> tuple[Path, ...]: ...
    @property
    def renewed(self) -> tuple[Path, ...]: ...
    @property
    def stale(self) -> tuple[Path, ...]: ...
    @property
    def problem(self) -> str | None: ...


def erased_facts(done: _Done) -> dict[str, Any]:
    """What went with a deletion, for JSON."""
    return {
        "backups": [str(path) for path in done.backups],
        "renewed": [str(path) for path in done.renewed],
        "stale": [str(path) for path in done.stale],
        "problem": done.problem,
    }


def erased_too(done: _Done, whom: str, *, quiet: bool, noun: str = "gallery", err: bool = False) -> int:
    """Say which copies went with a deletion, and what may be left; the exit code.

    Args:
        quiet: problems only. noun: what it was deleted from. err: all on stderr, as a note beside a command's output.
    """
    from facecam.people.copies import reachable

    if not quiet:
        deleted, made = ("facecam: deleted", "facecam: made") if err else ("Deleted", "Made")
        for path in done.backups:
            click.echo(f"{deleted} as well, since it held {whom}: {escaped(str(path))}", err=err)
        for path in done.renewed:
            click.echo(f"{made} anew without {whom}: the backup {escaped(str(path))}", err=err)
    for path in done.stale:
        next_step = (
            f"still holds {whom}; delete it"
            if reachable(path)
            else f"cannot be reached (its folder is not there) and still holds {whom}; it is made anew when it is back"
        )
        click.echo(f"facecam: the backup {escaped(str(path))} {next_step}", err=True)
    if done.problem:
        click.echo(
            f"facecam: traces of {whom} may be left in the {noun}'s files ({done.problem}); "
            f"they are erased when facecam next opens the {noun}",
            err=True,
        )
    return 1 if done.problem or done.stale else 0
