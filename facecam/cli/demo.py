"""facecam demo: the main job on two portraits that pip installed."""

from __future__ import annotations

from pathlib import Path

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.progress import bar
from facecam.settings import Settings


@click.command(
    epilog="Example: facecam demo --output-dir demo-output", short_help="Show the main job, without a camera."
)
@click.option(
    "--output-dir",
    "-o",
    default="demo-output",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the clip, the labelled video and the timeline go.",
)
@setting_options("device", "pack", "threads")
def demo(output_dir: Path, settings: Settings) -> int:
    """Enrol one of two portraits, render a clip of both, label it, and say who was seen when.

    Your own gallery is not touched.
    """
    engine = common.open_engine(settings)
    from facecam.demo import KNOWN, render_demo, run_demo

    click.echo("rendering the clip")
    render_demo(output_dir)
    with bar("demo") as progress:
        done, rows = run_demo(engine, output_dir, progress)
    click.echo(f"enrolled {KNOWN} from one portrait; the other person in the clip is a stranger")
    click.echo("who was seen when:")
    for name, start, end in rows:
        click.echo(f"  {start:6.2f} s to {end:6.2f} s  {name}")
    click.echo(f"{done.frames} frames at {done.frames / done.seconds:.0f} fps on the {engine.device.name}")
    click.echo("files:")
    for path in [output_dir / "demo.mp4", *done.outputs]:
        click.echo(f"  {path}")
    return 0
