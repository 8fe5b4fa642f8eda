"""facecam calibrate: refine the threshold with the user's own people and strangers."""

from __future__ import annotations

from pathlib import Path

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.progress import bar
from facecam.errors import UsageFault
from facecam.settings import Settings


@click.command(
    epilog="Example: facecam calibrate --unknown photos-of-strangers/",
    short_help="Fit the threshold to your own people and strangers.",
)
@click.option(
    "--unknown",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of photos of people who are not enrolled; the more the better.",
)
@click.option("--forget", is_flag=True, help="Drop the stored calibration.")
@setting_options("max_false_names", "min_face", "device", "pack", "threads")
def calibrate(unknown: Path | None, forget: bool, settings: Settings) -> int:
    """Compare the enrolled people with each other and with strangers; store what that says with the gallery.

    Prints the curve, the threshold that keeps the stated risk, and what it costs in recall.
    """
    engine = common.open_engine(settings)
    gallery = common.open_gallery()
    if gallery is None:
        raise UsageFault("nobody is enrolled, so there is nothing to calibrate; run: facecam enroll --name NAME PHOTO")
    with gallery:
        from facecam.calibration import Study
        from facecam.people.calibrate import Calibration

        if forget:
            Calibration.forget(gallery, engine.embedder.space)
            click.echo("forgotten; the built-in curve is used again")
            return 0
        with bar("strangers", "photos") as progress:
            study = Study.of(engine, gallery, unknown, progress)
        result = study.calibrate()
        result.store(gallery, engine.embedder.space)
        for line in study.report(result):
            click.echo(line)
        doubtful = list(study.doubtful())
        for line in doubtful[:5]:
            common.note(f"{line}; if it is that person, take it out and calibrate again")
        if len(doubtful) > 5:
            common.note(f"{len(doubtful) - 5} more photos of strangers look like somebody enrolled")
    return 0
