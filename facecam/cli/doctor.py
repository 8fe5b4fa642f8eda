"""``facecam doctor``: check this machine."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from facecam.settings import home

_MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


@click.command(epilog="Example: facecam doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def doctor(as_json: bool) -> int:
    """Check this machine: packages, devices, cameras, display, models, gallery, disk.

    Exit code 1 if the main job (enrolling, labelling) cannot run here.
    """
    from facecam.doctor import can_run, examine
    from facecam.people.names import escaped

    checks = examine(home())
    good = can_run(checks)
    if as_json:
        report = {"schema": "facecam.doctor/1", "ok": good, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
        return 0 if good else 1
    for check in checks:
        click.echo(f"{_MARKS[check.state]:<8} {check.name:<12} {escaped(check.text)}")
        if check.hint:
            click.echo(f"{'':<21} {escaped(check.hint)}")
    click.echo("facecam can run here" if good else "facecam cannot run here: see the errors above")
    return 0 if good else 1
