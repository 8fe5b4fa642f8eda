"""report.html: one file, no network, that shows who was seen when in one file or in a whole run.

The page is ``page/report.html``, its style and its script are put into it, and the data follow as JSON that the
script reads; it makes text nodes of all names and paths. A Content-Security-Policy lets only this very script run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final

from facecam.archive.digest import digest
from facecam.archive.inputs import VIDEO
from facecam.archive.presence import FileSeen
from facecam.people.names import escaped
from facecam.video.atomic import atomic_text

#: Name of the report of a run in the output folder.
REPORT: Final = "report.html"


def write_report(
    path: Path,
    files: Iterable[FileSeen],
    failures: Sequence[str] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Write the report. It depends on its arguments alone: no date, no timing, so that equal runs give equal files.

    Args:
        path: the HTML file; links to videos and photos are relative to its folder.
        files: in the order in which they are listed.
        failures: a line for each input that could not be labelled.

    Raises:
        OutputError: it exists (without ``overwrite``) or cannot be written.
    """
    files = list(files)
    text = page(digest(files, path.parent, failures), title(files))
    with atomic_text(path, overwrite=overwrite) as file:
        file.write(text)


def title(files: Sequence[FileSeen]) -> str:
    """The name of the only file, or how many there are."""
    if len(files) == 1:
        return escaped(files[0].path.name)
    videos = sum(seen.kind == VIDEO for seen in files)
    photos = len(files) - videos
    parts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((videos, "video"), (photos, "photo")) if n]
    return " and ".join(parts) or "no files"


def is_report_of(report: Path, source: Path) -> bool:
    """Whether a page is the report of this one file, by its title."""
    try:
        with report.open(encoding="utf-8", errors="replace") as file:
            head = file.read(5000)
    except OSError:
        return False
    return f"<title>{html.escape(escaped(source.name))}: who was seen when</title>" in head


def page(data: dict[str, Any], heading: str) -> str:
    """The whole page.

    Args:
        data: of `digest`. heading: plain text.
    """
    script, style = _part("report.js"), _part("report.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src 'self' file: data:; "
        "media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )
    coded = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Inside of a script element only "<" can end it or begin a comment; the others are for other readers.
    for character in "<>&\u2028\u2029":
        coded = coded.replace(character, f"\\u{ord(character):04x}")
    return Template(_part("report.html")).substitute(
        policy=html.escape(policy), title=html.escape(heading), style=style, data=coded, script=script
    )


def _part(name: str) -> str:
    return resources.files("facecam.archive").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a source expression (CSP level 3, 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
