"""facecam run: cameras, streams or videos, labelled live."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from facecam.cli import common
from facecam.cli.options import FiniteRange
from facecam.cli.options import settings as setting_options
from facecam.cli.printing import count
from facecam.errors import SourceError
from facecam.settings import Settings, home


@dataclass(frozen=True, slots=True)
class _Order:
    """The options of one run, as they were given."""

    source: tuple[str, ...]
    record: Path | None
    headless: bool
    service: bool
    events: str | None
    events_size: str
    events_keep: int
    webhook: tuple[str, ...]
    mqtt: tuple[str, ...]
    ca: Path | None
    reconnect: str
    stall: float
    mirror: bool
    blur: bool
    width: int | None
    height: int | None
    fps: float | None
    max_seconds: float | None


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A time as people write it (5s, 5, 0.5m), in seconds."""
    text = value.strip().lower()
    factor = {"s": 1.0, "m": 60.0}.get(text[-1:], 0.0)
    with contextlib.suppress(ValueError):
        seconds = float(text[:-1]) * factor if factor else float(text)
        if 0.2 <= seconds <= 3600:
            return seconds
    raise click.BadParameter(f"expected seconds from 0.2s to 3600s, such as 5s, not {value!r}")


class _Run(click.Command):
    """Says where a file or an address goes that was given as it is to other commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            raise click.UsageError(f"{error.message}; a camera, stream or video goes after --source", ctx) from None


@click.command(
    cls=_Run,
    epilog="Example: facecam run --source 0 --events events.jsonl",
    short_help="Label a live camera, stream or video.",
)
@click.option(
    "--source",
    multiple=True,
    default=("0",),
    show_default=True,
    envvar="FACECAM_SOURCE",
    help="Camera number or stable name, stream URL or video file; again for more in a grid.",
)
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Write what is shown to a video file.")
@click.option("--headless", is_flag=True, help="Open no window.")
@click.option("--service", is_flag=True, help="Run for days: no window, wait for sources that are not there yet.")
@click.option("--events", metavar="FILE|-", help="Write a JSON line whenever a person appears or leaves.")
@click.option("--events-size", default="64MB", show_default=True, metavar="SIZE", help="Size at which FILE is rotated.")
@click.option(
    "--events-keep", default=5, show_default=True, type=click.IntRange(0, 1000), help="Rotated files of events to keep."
)
@click.option("--webhook", multiple=True, metavar="URL", envvar="FACECAM_WEBHOOK", help="Post events as JSON.")
@click.option(
    "--mqtt", multiple=True, metavar="URL", envvar="FACECAM_MQTT", help="Publish events: mqtt://HOST/TOPIC, mqtts://..."
)
@click.option(
    "--ca",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="FACECAM_CA",
    help="Certificates (PEM) to trust beside the system's, for --webhook and --mqtt.",
)
@click.option(
    "--reconnect",
    default="forever",
    show_default=True,
    metavar="never|forever|N",
    help="How often to try a lost camera or stream again.",
)
@click.option(
    "--stall",
    default="5s",
    show_default=True,
    metavar="TIME",
    callback=_seconds,
    help="Time without a picture after which a source is connected again.",
)
@click.option("--mirror", is_flag=True, help="Show the picture as a mirror does.")
@click.option("--blur", is_flag=True, help="Blur unknown faces.")
@click.option("--width", type=click.IntRange(16, 16384), help="Width to ask of a camera, pixels.")
@click.option("--height", type=click.IntRange(16, 16384), help="Height to ask of a camera, pixels.")
@click.option("--fps", type=FiniteRange(1, 1000), help="Rate to ask of a camera, frames a second.")
@click.option("--max-seconds", type=FiniteRange(0.1), help="Stop after this many seconds.")
@setting_options(
    "threshold",
    "max_false_names",
    "min_face",
    "detect_every",
    "device",
    "precision",
    "pack",
    "model",
    "threads",
    "forget_unknown_after",
)
def run(settings: Settings, **given: Any) -> int:
    """Label live cameras, streams or videos. Keys: q quit, s snapshot, r record, b blur, m mirror, h help."""
    order = _Order(**given)
    common.import_cv2()
    from facecam.live.deliver import Courier
    from facecam.live.outlets import Outlets
    from facecam.live.service import Manager, signals
    from facecam.live.view import LiveOptions, LiveView
    from facecam.live.watch import GalleryWatch
    from facecam.video.events import EventSink, size_in_bytes
    from facecam.video.window import Window

    posts, size = _posts(order), size_in_bytes(order.events_size)  # what is wrong with these is told first
    manager = Manager()
    views: list[LiveView] = []  # the one, once all is open
    asked = [False]  # by SIGHUP; acted on between two frames, not in the middle of a line

    def stop() -> None:
        if not views:
            raise click.exceptions.Exit(0)
        views[0].stop()

    def hang_up() -> None:
        asked[0] = True

    with contextlib.ExitStack() as stack:
        # From the start, which may take long, to the last event delivered: by itself SIGHUP would end the process.
        stack.enter_context(signals(stop, hang_up))
        # A window that cannot open is found out before the models load, not after.
        hidden = order.headless or order.service
        window = None if hidden else stack.enter_context(Window("facecam"))
        sources = _open_sources(order, stack)
        engine = common.open_engine(settings)
        watch = GalleryWatch(
            home() / "gallery.db",
            common.open_gallery,
            engine.matcher,
            lambda gallery: engine.book(gallery, common.note),
            common.note,
        )
        stack.callback(watch.close)
        gallery = watch.gallery
        matcher = common.open_matcher(engine, gallery)
        sink = EventSink(order.events, size, order.events_keep) if order.events is not None else None
        couriers = [Courier(post, common.note) for post in posts]
        outlets = stack.enter_context(Outlets(sink, couriers, common.note))

        def alive() -> None:
            manager.alive()
            if sink is not None and sink.closed and hidden and order.record is None and not couriers:
                view.stop()  # the reader of our output has gone, and nobody else looks
            if asked[0]:
                asked[0] = False
                watch.reload()
                outlets.reopen()
                common.note("the gallery is read anew")

        if hidden and order.events is None and order.record is None and not couriers:
            common.note("nothing is shown or written; --events - prints who comes and goes")
        view = LiveView(
            [(source, engine.recogniser(matcher)) for source in sources],
            LiveOptions(order.record, order.mirror, order.blur, order.max_seconds, engine.device.name),
            screen=window,
            emit=outlets.write,
            changed=watch.take,
            book=engine.book(gallery, common.note),
            note=common.note,
            alive=alive,
        )
        views.append(view)
        manager.ready()
        outcome = view.run()
        manager.stopping()
        names = ", ".join(sorted(outcome.names)) or "nobody named"
        rate = outcome.frames / outcome.seconds if outcome.seconds else 0.0
        common.note(f"{count(outcome.frames, 'frame')} in {outcome.seconds:.1f} s ({rate:.0f} fps): {names}")
    return 0


def _open_sources(order: _Order, stack: contextlib.ExitStack) -> list[Any]:
    """All sources. One alone must be there at the start, since a wrong address would be waited for in vain.

    Raises:
        SourceError: the only source, or all of several, cannot be opened.
    """
    from facecam.video.reconnect import Reconnect
    from facecam.video.sources import open_source

    reconnect = Reconnect.parse(order.reconnect, order.stall, at_start=order.service or len(order.source) > 1)
    sources = []
    for spec in dict.fromkeys(order.source):
        try:
            source = open_source(
                spec, width=order.width, height=order.height, fps=order.fps, paced=True, reconnect=reconnect
            )
        except SourceError as error:  # a file: it will not come into being later
            if len(order.source) == 1:
                raise
            common.note(f"{error}; the other sources go on")
            continue
        sources.append(stack.enter_context(source))
    if not sources:
        raise SourceError("none of the sources can be opened")
    return sources


def _posts(order: _Order) -> list[Any]:
    """Where events are delivered to.

    Raises:
        UsageFault: not such an address, or not such certificates. DependencyMissing: no paho-mqtt.
    """
    posts: list[Any] = []
    if not (order.webhook or order.mqtt):
        return posts
    from facecam.live.trust import trusting

    tls = trusting(order.ca)
    if order.webhook:
        from facecam.live.webhook import WebPost

        posts += [WebPost(url, tls) for url in order.webhook]
    if order.mqtt:
        from facecam.live.mqtt import MqttPost

        posts += [MqttPost(url, tls) for url in order.mqtt]
    return posts
