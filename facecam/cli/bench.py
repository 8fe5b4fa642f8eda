"""facecam bench: what each stage costs on this machine."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecam.cli import common
from facecam.cli.options import FiniteRange
from facecam.cli.options import settings as setting_options
from facecam.cli.progress import bar
from facecam.errors import UsageFault
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.bench.models import Costs
    from facecam.bench.samples import Report, Samples
    from facecam.video.base import FrameSource

_JSON = click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures to a JSON file."
)
#: How long a source is watched that has no end, seconds.
_LIVE_SECONDS = 10.0


@click.group(
    invoke_without_command=True, epilog="Example: facecam bench --source holiday.mp4", short_help="Measure the speed."
)
@click.option(
    "--source",
    default="synthetic",
    show_default=True,
    metavar="FILE|camera|synthetic",
    help="A video file, as fast as it goes; camera, its number or a stream; or a film of one face, paced as a camera.",
)
@click.option(
    "--seconds",
    type=FiniteRange(0.5, 86400),
    help="How long to measure; default: a file whole, everything else 10 s.",
)
@_JSON
@setting_options(
    "threshold", "max_false_names", "min_face", "detect_every", "device", "precision", "pack", "model", "threads"
)
@click.pass_context
def bench(ctx: click.Context, source: str, seconds: float | None, json_file: Path | None, settings: Settings) -> int:
    """Measure what each stage costs on this machine, with the gallery as it is; nothing of it is changed.

    Without a command: run a source through all stages.
    """
    if ctx.invoked_subcommand is not None:
        ctx.default_map = {"models": ctx.default_map}
        return 0
    common.import_cv2()
    with _target(json_file) as write:
        report = _measured(source, seconds, settings)
        _show(report)
        write(report.to_json())
    return 0


@bench.command("models", epilog="Example: facecam bench models --device cpu")
@_JSON
@setting_options("device", "pack", "threads")
def models(json_file: Path | None, settings: Settings) -> int:
    """Measure each model by batch, precision and device: time, multiply-adds, share of the machine's peak."""
    common.import_cv2()
    from facecam.bench.models import measure_models
    from facecam.settings import home
    from facecam.zoo.packs import Zoo
    from facecam.zoo.session import Device, choose_device

    device = choose_device(settings.device)
    if device.why is not None:
        common.note(f"running on the CPU: {device.why}")
    devices = [device] if settings.device != "auto" or device.name == "cpu" else [Device("cpu"), device]
    with _target(json_file) as write:
        costs = measure_models(Zoo(home()), settings.pack, devices, settings.threads)
        _show_models(costs)
        write(costs.to_json())
    return 0


def _measured(source: str, seconds: float | None, settings: Settings) -> Report:
    from facecam.bench.measure import measure_file, measure_live
    from facecam.video.address import SCHEMES, hide_credentials, scheme_of
    from facecam.video.devices import is_device
    from facecam.video.sources import open_source

    camera = source == "camera" or (source.isascii() and source.isdigit() and len(source) <= 4)
    camera = camera or scheme_of(source) in SCHEMES or is_device(source)
    if not camera and source != "synthetic" and not Path(source).is_file():
        raise UsageFault(
            f"--source takes a video file, camera or synthetic; {hide_credentials(source)} is none of these"
        )
    with ExitStack() as stack:
        engine = common.open_engine(settings)
        gallery = common.open_gallery()
        if gallery is not None:
            stack.callback(gallery.close)
        matcher = common.open_matcher(engine, gallery)
        if camera:
            spec = "0" if source == "camera" else source
            return measure_live(lambda samples: open_source(spec), engine, matcher, seconds or _LIVE_SECONDS)
        if source == "synthetic":
            return _synthetic(stack, engine, matcher, seconds or _LIVE_SECONDS)
        progress = stack.enter_context(bar(Path(source).name))
        return measure_file(Path(source), engine, matcher, progress, seconds=seconds)


def _synthetic(stack: ExitStack, engine: Any, matcher: Any, seconds: float) -> Report:
    from facecam.bench.film import Again, render
    from facecam.bench.measure import Clocked, measure_live
    from facecam.video.sources import PacedSource

    film = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "synthetic.mp4"
    if not render(film):
        common.note("the film has no face, since its portrait is not installed; run: pip install 'facecam[demo]'")

    def paced(samples: Samples) -> FrameSource:
        return PacedSource(Clocked(Again(film), samples))

    return measure_live(paced, engine, matcher, seconds, film=film)


def _console() -> Any:
    from rich.console import Console

    # Into a file or a pipe a table is as wide as it needs.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _show(report: Report) -> None:
    from rich.table import Table

    from facecam.people.names import escaped

    figures = report.to_json()
    table = Table()
    for head in ("stage", "calls", "median", "p95", "a frame", "share"):
        table.add_column(head, justify="left" if head == "stage" else "right")
    for name, stage in report.stages().items():
        table.add_row(
            name,
            f"{stage.calls}",
            f"{stage.median:.2f} ms",
            f"{stage.p95:.2f} ms",
            "apart" if stage.per_frame is None else f"{stage.per_frame:.2f} ms",
            "" if stage.share is None else f"{stage.share:.1%}",
        )
    click.echo(
        f"{escaped(report.source)}: {report.width} x {report.height}, {report.frames} frames in "
        f"{report.seconds:.1f} s; pack {report.pack} on the {report.device}, {report.precision}; "
        f"{report.people} people enrolled"
    )
    _console().print(table)
    ceiling = ""
    if report.decode_fps is not None:
        ceiling = f"; decoding alone {report.decode_fps:.0f} fps"
        ceiling += f" (ratio {report.ratio:.2f})" if report.ratio is not None else ""
    lines = [f"{report.fps:.1f} fps{ceiling}"]
    lines.append("frame to labels: " + ", ".join(f"{k} {v:.1f} ms" for k, v in figures["latency_ms"].items()))
    if report.kind == "live":
        lines[-1] += f"; {report.late} frames shown late, {report.dropped} without labels of their own"
    memory = "" if report.peak_rss is None else f"; peak memory {report.peak_rss:.0f} MB"
    lines.append(
        f"CPU {figures['cpu_seconds_per_frame'] * 1e3:.2f} ms a frame, {report.cpu_per_second:.2f} s a second{memory}"
    )
    lines.append(
        f"{report.samples.detections} detections, {report.samples.embeddings} embeddings, {report.faces} faces shown"
    )
    for line in lines:
        click.echo(line)


def _show_models(costs: Costs) -> None:
    from rich.table import Table

    table = Table()
    for head in ("model", "precision", "device", "input", "a call", "each", "multiply-adds", "of the peak"):
        table.add_column(head, justify="left" if head in ("model", "precision", "device") else "right")
    for row in costs.rows:
        table.add_row(
            row.model,
            row.precision,
            row.device,
            f"{row.count} x {row.size[0]} x {row.size[1]}",
            f"{row.ms:.2f} ms",
            f"{row.per_item:.2f} ms",
            "" if row.macs is None else f"{row.macs / 1e6:,.0f} M",
            "" if row.peak_share is None else f"{row.peak_share:.0%}",
        )
    _console().print(table)
    for device, peak in costs.peak.items():
        threads = f", {costs.threads} threads" if device == "cpu" else ""
        click.echo(
            f"peak of the {device}{threads}: {peak / 1e9:.1f} thousand million multiply-adds a second "
            "(float32 matrix product)"
        )


@contextmanager
def _target(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives what writes the figures; that it can is found out before anything is measured."""
    if path is None:
        yield lambda figures: None
        return
    from facecam.video.atomic import atomic_text

    with atomic_text(path, overwrite=True) as file:

        def write(figures: dict[str, Any]) -> None:
            file.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")

        yield write
    click.echo(f"wrote {path}")
