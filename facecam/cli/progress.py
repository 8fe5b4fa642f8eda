"""Progress for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

#: Seconds between two plain lines.
PLAIN_EVERY = 10.0


@contextmanager
def bar(title: str, unit: str = "frames") -> Iterator[Callable[[int, int | None], None]]:
    """A progress display on stderr; gives a function (done, in all or None) to call as often as one likes."""
    if sys.stderr.isatty():
        yield from _rich_bar(title, unit)
    else:
        yield _plain(title, unit)


def _rich_bar(title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(),
    )
    start = last = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=8) as progress:
        task = progress.add_task(escape(title), total=0, unit=unit, rate=0.0)

        def update(done: int, total: int | None) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last > 0.1:  # a lock a frame would cost more than the frame
                last = now
                progress.update(task, completed=done, total=total or done, rate=done / (now - start))

        yield update


def _plain(title: str, unit: str) -> Callable[[int, int | None], None]:
    start = last = time.perf_counter()

    def update(done: int, total: int | None) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= PLAIN_EVERY:
            last = now
            rate = done / (now - start)
            of = f"/{total}" if total else ""
            left = f", {max(0.0, (total - done) / rate):.0f} s left" if total and rate else ""
            click.echo(f"{title}: {done}{of} {unit}, {rate:.0f}/s{left}", err=True)

    return update
