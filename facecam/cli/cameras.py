"""facecam cameras: which cameras there are, how to name them, what they can give."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

#: Elsewhere than on Linux, numbers are tried up to this one.
_TRIED = 5
#: All these tries together may take so long, seconds.
_SECONDS = 20.0


@click.command(epilog="Example: facecam cameras --json")
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of lines.")
def cameras(as_json: bool) -> int:
    """List cameras: number, stable name, sizes and rates. The name stays when cameras are plugged in elsewhere."""
    found = _listed() if sys.platform.startswith("linux") else _tried()
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    if not found:
        click.echo("no camera is connected; a stream (rtsp://...) or a video file can stand in")
        return 0
    for camera in found:
        click.echo(f"{camera['number']}  {camera['name']}")
        if camera["stable"]:
            click.echo(f"   --source {camera['stable']}")
        if camera["problem"]:
            click.echo(f"   cannot be asked: {camera['problem']}")
        for line in _modes(camera["modes"]):
            click.echo(f"   {line}")
    return 0


def _listed() -> list[dict[str, Any]]:
    from facecam.video.devices import list_cameras

    return [asdict(camera) for camera in list_cameras()]


def _tried() -> list[dict[str, Any]]:
    """Where the system keeps no list: what OpenCV opens, with the size that it gives."""
    from facecam.doctor import probe_cameras

    found = []
    for camera in probe_cameras(list(range(_TRIED)), _SECONDS):
        if camera["size"]:
            width, height = camera["size"]
            mode = {"format": "", "width": width, "height": height, "fps": None}
            entry = {"number": camera["index"], "name": f"camera {camera['index']}", "path": None, "stable": None}
            found.append({**entry, "modes": [mode], "problem": None})
    return found


def _modes(modes: list[dict[str, Any]]) -> list[str]:
    """One line for each pixel format: its sizes, the largest first."""
    lines: dict[str, list[str]] = {}
    for mode in sorted(modes, key=lambda m: (-m["width"] * m["height"], -(m["fps"] or 0))):
        rate = f"@{mode['fps']:g}" if mode["fps"] else ""
        lines.setdefault(mode["format"], []).append(f"{mode['width']}x{mode['height']}{rate}")
    return [f"{name or 'gives'}: {', '.join(sizes)}" for name, sizes in lines.items()]
