"""facecam run: a live camera, stream or video, labelled."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.settings import Settings


@click.command(
    epilog="Example: facecam run --source 0 --events events.jsonl",
    short_help="Label a live camera, stream or video.",
)
@click.option("--source", default="0", show_default=True, help="Camera number, stream URL or video file.")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Write what is shown to a video file.")
@click.option("--headless", is_flag=True, help="Open no window.")
@click.option("--events", metavar="FILE|-", help="Write a JSON line whenever a person appears or leaves.")
@click.option("--mirror", is_flag=True, help="Show the picture as a mirror does.")
@click.option("--blur", is_flag=True, help="Blur unknown faces.")
@click.option("--width", type=click.IntRange(16, 16384), help="Width to ask of a camera, pixels.")
@click.option("--height", type=click.IntRange(16, 16384), help="Height to ask of a camera, pixels.")
@click.option("--fps", type=click.FloatRange(1, 1000), help="Rate to ask of a camera, frames a second.")
@click.option("--max-seconds", type=click.FloatRange(0.1), help="Stop after this many seconds.")
@setting_options("threshold", "max_false_names", "min_face", "detect_every", "device", "pack", "model", "threads")
def run(
    source: str,
    record: Path | None,
    headless: bool,
    events: str | None,
    mirror: bool,
    blur: bool,
    width: int | None,
    height: int | None,
    fps: float | None,
    max_seconds: float | None,
    settings: Settings,
) -> int:
    """Label a live camera, stream or video. Keys: q quit, s snapshot, r record, b blur, m mirror, h help."""
    common.import_cv2()
    from facecam.live import LiveOptions, LiveView
    from facecam.video.sinks import EventSink
    from facecam.video.sources import open_source
    from facecam.video.window import Window

    with contextlib.ExitStack() as stack:
        # A window that cannot open is found out before the models load, not after.
        window = None if headless else stack.enter_context(Window("facecam"))
        frames = stack.enter_context(open_source(source, width=width, height=height, fps=fps, paced=True))
        engine = common.open_engine(settings)
        gallery = common.open_gallery()
        matcher = common.open_matcher(engine, gallery)
        sink = stack.enter_context(EventSink(events)) if events is not None else None
        version = gallery.version() if gallery is not None else None

        def reload() -> Any:
            """The matcher of a gallery that another process has changed meanwhile, else None."""
            nonlocal gallery, version
            if gallery is None:
                gallery = common.open_gallery()
            if gallery is None or gallery.version() == version:
                return None
            version = gallery.version()
            return engine.matcher(gallery)

        options = LiveOptions(record, mirror, blur, max_seconds, engine.device.name)
        view = LiveView(
            frames,
            engine.recogniser(matcher),
            options,
            screen=window,
            emit=sink.write if sink is not None else None,
            reload=reload,
            book=engine.book(gallery, common.note),
            note=common.note,
        )
        outcome = view.run()
        names = ", ".join(sorted(outcome.names)) or "nobody named"
        rate = outcome.frames / outcome.seconds if outcome.seconds else 0.0
        common.note(f"{outcome.frames} frames in {outcome.seconds:.1f} s ({rate:.0f} fps): {names}")
    return 0
