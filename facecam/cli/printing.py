"""What the commands about people share: the gallery, JSON, counts, aligned tables, a question."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from facecam.errors import UsageFault
from facecam.people.names import escaped

if TYPE_CHECKING:
    from facecam.people.gallery import Gallery

AS_JSON: Callable[..., Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def open_gallery(create: bool = False) -> Gallery:
    """The gallery in the home; without ``create`` an absent one reads as empty."""
    from facecam.people.gallery import Gallery  # numpy and sqlite3: not for --help

    return Gallery.open(create=create)


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
        raise UsageFault(f"{command} asks before it deletes, and nobody answered; add -y to delete without asking")
    return answer.strip().lower() in ("y", "yes")


def erased_too(backups: Sequence[Any], problem: str | None, whom: str) -> int:
    """Say which copies went with a deletion, and what may be left; the exit code."""
    for path in backups:
        click.echo(f"Deleted as well, since it held {whom}: {escaped(str(path))}")
    if problem:
        click.echo(
            f"facecam: traces of {whom} may be left in the gallery's files ({problem}); "
            "they are erased when facecam next opens the gallery",
            err=True,
        )
        return 1
    return 0
