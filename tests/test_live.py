"""The live view: newest frame shown, recognition beside it, events, keys, recording; cameras faked and on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

from facecam.cli import invoke
from facecam.engine import Engine
from facecam.errors import SourceError
from facecam.live.attendance import GONE_AFTER, Attendance
from facecam.live.view import LiveOptions, LiveView
from facecam.live.worker import Lane, Snapshot, Worker
from facecam.people.match import Matcher
from facecam.values import Face, Frame, Image, Match, Sighting, SourceInfo
from facecam.video.base import Source
from facecam.video.reconnect import Status
from facecam.video.sinks import VideoSink
from facecam.video.sources import CameraSource, SyntheticSource
from tests.fakes import FakeCapture, mjpeg_server, virtual_display
from tests.support import HOPPER, facecam, portrait


def seen(name: str | None, track: int = 1, decided: bool = True) -> Sighting:
    return Sighting(track, Face((10, 10, 50, 50), 0.9), Match(name, 0.95), decided)


def attend(steps: list[tuple[float, list[Sighting]]], end: float) -> list[tuple[str, str | None, float]]:
    events: list[dict[str, Any]] = []
    attendance = Attendance("test", events.append)
    for moment, sightings in steps:
        attendance.update(moment, sightings)
    attendance.close(end)
    return [(e["type"], e["name"], e["time"]) for e in events]


def test_a_person_appears_once_and_leaves_once() -> None:
    steps = [(k / 10, [seen("Ada")]) for k in range(20)] + [(k / 10, []) for k in range(20, 60)]
    assert attend(steps, 6.0) == [("appear", "Ada", 0.0), ("leave", "Ada", 1.9)]


def test_a_short_absence_and_a_new_track_are_no_event() -> None:
    steps = [(0.0, [seen("Ada", 1)]), (GONE_AFTER * 0.8, []), (GONE_AFTER * 0.9, [seen("Ada", 2)])]
    assert [e[:2] for e in attend(steps, 1.0)] == [("appear", "Ada"), ("leave", "Ada")]


def test_with_nobody_to_compare_with_there_is_no_similarity() -> None:
    events: list[dict[str, Any]] = []
    attendance = Attendance("test", events.append)
    unlike = Sighting(2, Face((10, 10, 50, 50), 0.9), Match(None, None), True)
    for moment, similarity in ((0.0, None), (0.1, -0.1), (0.2, None), (0.3, -0.2)):
        told = Sighting(1, Face((10, 10, 50, 50), 0.9), Match(None, similarity), True)
        attendance.update(moment, [told, unlike])
    attendance.close(0.3)
    assert [e["similarity"] for e in events] == [None, None, -0.1, None]


def test_undecided_faces_are_no_event() -> None:
    assert attend([(0.0, [seen(None, decided=False)])], 1.0) == []


def test_an_answer_that_turns_says_both() -> None:
    steps = [(0.0, [seen(None, 1)]), (1.0, [seen("Ada", 1)])]
    assert attend(steps, 1.0) == [
        ("appear", None, 0.0),
        ("leave", None, 1.0),
        ("appear", "Ada", 1.0),
        ("leave", "Ada", 1.0),
    ]


def test_a_snapshot_moves_its_faces_on_but_not_for_ever() -> None:
    snapshot = Snapshot(1.0, ((seen("Ada"), (100.0, 0.0)),))
    assert snapshot.at(1.05)[0].face.box[0] == pytest.approx(14.5, abs=1)
    assert snapshot.at(9.0)[0].face.box[0] == pytest.approx(30, abs=1)


class FakeScreen:
    """Answers with keys from a script and keeps what it was shown."""

    def __init__(self, keys: dict[int, str]) -> None:
        self.keys = keys
        self.shown: list[Image] = []
        self.closed = False

    def show(self, image: Image) -> str | None:
        self.shown.append(image.copy())
        return self.keys.get(len(self.shown))


def grace(engine: Engine) -> Matcher:
    from facecam.vision.align import align

    picture = portrait("grace_hopper")
    face = engine.landmarker.locate(picture, engine.detector.detect(picture, 40))[0]
    vector = engine.embedder.embed([align(picture, face, "dlib-150")], mirror=True)
    return Matcher(("Grace",), np.zeros(1, np.int32), vector, threshold=engine.threshold)


def moving(count: int) -> SyntheticSource:
    picture = cv2.resize(portrait("grace_hopper"), (320, 360))
    return SyntheticSource(lambda k: np.roll(picture, k, axis=1), (320, 360), 25, count)


def test_names_events_and_recording_without_a_window(engine: Engine, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    options = LiveOptions(record=tmp_path / "r.mp4")
    view = LiveView([(moving(40), engine.recogniser(grace(engine)))], options, emit=events.append)
    outcome = view.run()
    assert outcome.frames == 40 and outcome.names == {"Grace"}
    assert [e["type"] for e in events] == ["appear", "leave"]
    assert events[0]["name"] == "Grace" and events[0]["similarity"] > 0.94
    with av.open(str(tmp_path / "r.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 40


def test_keys(engine: Engine, tmp_path: Path) -> None:
    screen = FakeScreen({2: "h", 4: "m", 6: "b", 8: "s", 10: "r", 16: "r", 18: "q"})
    notes: list[str] = []
    options = LiveOptions(snapshot_dir=tmp_path)
    view = LiveView([(moving(500), engine.recogniser(grace(engine)))], options, screen=screen, note=notes.append)
    outcome = view.run()
    assert outcome.frames == 18, "q ends it"
    assert options.mirror and options.blur
    assert len(list(tmp_path.glob("facecam-*.jpg"))) == 1 and any("snapshot" in n for n in notes)
    films = list(tmp_path.glob("facecam-*.mp4"))
    assert len(films) == 1
    with av.open(str(films[0])) as video:
        assert sum(1 for _ in video.decode(video=0)) == 6
    plain, mirrored = screen.shown[0], screen.shown[4]
    assert np.abs(mirrored[200:, ::-1].astype(int) - plain[200:]).mean() < 40


def test_a_closed_window_ends_the_run(engine: Engine) -> None:
    screen = FakeScreen({})
    view = LiveView([(moving(500), engine.recogniser(grace(engine)))], LiveOptions(), screen=screen)
    screen.closed = True
    assert view.run().frames == 1


def test_an_error_in_recognition_is_loud(engine: Engine) -> None:
    class Broken:
        def step(self, frame: Frame, cut: bool) -> None:
            raise RuntimeError("boom")

        def __getattr__(self, name: str) -> Any:
            return getattr(engine.recogniser(grace(engine)), name)

    with pytest.raises(RuntimeError, match="boom"):
        LiveView([(moving(50), Broken())], LiveOptions()).run()  # type: ignore[list-item]


def test_the_worker_takes_the_newest_frame_only(engine: Engine) -> None:
    taken: list[int] = []

    class Slow:
        tracker = engine.recogniser(grace(engine)).tracker

        def step(self, frame: Frame, cut: bool) -> Any:
            taken.append(frame.index)
            time.sleep(0.05)
            return type("Step", (), {"ended": []})

        def sightings(self, at: float) -> list[Sighting]:
            return []

    lane = Lane("slow", Slow())  # type: ignore[arg-type]
    worker = Worker([lane])
    worker.start()
    for k in range(30):
        worker.give(lane, Frame(k, k / 100, np.zeros((8, 8, 3), np.uint8)))
        time.sleep(0.01)
    worker.drain(2.0)
    worker.close()
    assert taken[-1] == 29 and len(taken) < 20
    assert taken == sorted(taken)


def test_a_fake_camera_runs_the_whole_way(engine: Engine) -> None:
    picture = cv2.resize(portrait("grace_hopper"), (320, 360))
    with CameraSource(0, capture=FakeCapture(lambda k: picture, period=1 / 60)) as camera:
        outcome = LiveView([(camera, engine.recogniser(grace(engine)))], LiveOptions(max_seconds=1.5)).run()
    assert outcome.names == {"Grace"}


class Watcher:
    """A recogniser to whom every bright picture shows Ada, after so many seconds of looking."""

    def __init__(self, takes: float = 0.0) -> None:
        self.tracker = SimpleNamespace(tracks=[SimpleNamespace(id=1, speed=(0.0, 0.0))])
        self.identities = SimpleNamespace(evidence={}, matcher=("Ada",))
        self._takes = takes
        self._bright = False

    def step(self, frame: Frame, cut: bool) -> Any:
        time.sleep(self._takes)
        self._bright = frame.image.mean() > 100
        return SimpleNamespace(ended=[])

    def sightings(self, at: float) -> list[Sighting]:
        return [seen("Ada")] if self._bright else []


class Scripted(Source):
    """A camera that does as a script says.

    Args:
        script: (seconds, brightness) of pictures, brightness None while it is lost.
        error: raised at the end.
    """

    def __init__(self, *script: tuple[float, int | None], error: Exception | None = None, name: str = "door") -> None:
        self.info = SourceInfo(name, 160, 120, fps=40, live=True)
        self.status = Status()
        self._frames = self._play(script)
        self._error = error
        self.over = False

    def _play(self, script: tuple[tuple[float, int | None], ...]) -> Iterator[Frame]:
        start, index = time.monotonic(), 0
        for seconds, brightness in script:
            end = time.monotonic() + seconds
            if brightness is None:
                self.status = Status(False, self.status.outages + 1, 1, "stopped")
                time.sleep(seconds)
                continue
            if not self.status.connected:
                self.status = Status(True, self.status.outages, 0, "stopped", 0.5)
            while time.monotonic() < end:
                time.sleep(0.025)
                yield Frame(index, time.monotonic() - start, np.full((120, 160, 3), brightness, np.uint8))
                index += 1
        self.over = True

    def read(self) -> Frame | None:
        frame = next(self._frames, None)
        if frame is None and self._error is not None:
            raise self._error
        return frame

    def close(self) -> None:
        pass


def told(sources: list[Scripted], watcher: Watcher, **more: Any) -> list[dict[str, Any]]:
    """The events of a view of these sources."""
    events: list[dict[str, Any]] = []
    options = more.pop("options", LiveOptions())
    LiveView([(source, watcher) for source in sources], options, emit=events.append, **more).run()  # type: ignore[misc]
    return events


@pytest.mark.parametrize("takes", [0.0, 0.15])
def test_nobody_appears_while_a_source_is_lost(takes: float) -> None:
    """The window is drawn on, and the answer of a frame from before may still come."""
    events = told([Scripted((0.6, 200), (0.7, None), (0.6, 20))], Watcher(takes), screen=FakeScreen({}))
    assert [e["type"] for e in events] == ["appear", "leave", "reconnecting", "connected"]
    assert events[1]["time"] <= events[2]["time"] and events[1]["duration"] < 0.7


def test_nobody_appears_while_one_of_several_that_are_recorded_is_lost(tmp_path: Path) -> None:
    sources = [Scripted((0.6, 200), (0.7, None), (0.6, 20)), Scripted((1.9, 20), name="yard")]
    events = told(sources, Watcher(), options=LiveOptions(record=tmp_path / "r.mkv"))
    assert [(e["type"], e["source"]) for e in events] == [
        (kind, "door") for kind in ("appear", "leave", "reconnecting", "connected")
    ]
    with av.open(str(tmp_path / "r.mkv")) as video:
        assert sum(1 for _ in video.decode(video=0)) > 20


def test_after_a_short_outage_an_old_answer_is_no_event() -> None:
    events = told([Scripted((0.6, 200), (0.02, None), (0.6, 20))], Watcher(0.15), screen=FakeScreen({}))
    assert [e["type"] for e in events] == ["appear", "leave", "reconnecting", "connected"]
    assert events[2]["time"] == events[3]["time"] < 0.7, "of the last picture before the gap"


@pytest.mark.parametrize("error", [None, SourceError("door: unplugged")])
@pytest.mark.parametrize("shown", [False, True])
def test_whoever_was_in_a_source_that_ends_leaves_with_it(error: Exception | None, shown: bool) -> None:
    """Not when the last of several sources ends."""
    sources = [Scripted((0.5, 200), error=error), Scripted((1.5, 20), name="yard")]
    events: list[tuple[str, bool]] = []
    view = LiveView(
        [(source, Watcher()) for source in sources],  # type: ignore[misc]
        LiveOptions(),
        screen=FakeScreen({}) if shown else None,
        emit=lambda event: events.append((event["type"], sources[1].over)),
    )
    view.run()
    assert events == [("appear", False), ("leave", False)]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    picture = cv2.resize(portrait("grace_hopper"), (320, 360))
    with VideoSink(path, SourceInfo("film", 320, 360, fps=25)) as sink:
        for k in range(50):
            sink.write(np.roll(picture, k, axis=1), k / 25)
    return path


def test_run_headless_writes_events(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--name", "Grace", str(HOPPER)]) == 0
    capsys.readouterr()
    assert invoke(["run", "--source", str(film), "--headless", "--events", "-"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(e["type"], e["name"]) for e in events] == [("appear", "Grace"), ("leave", "Grace")]


def test_a_stream_from_the_network_is_labelled(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--name", "Grace", str(HOPPER)]) == 0
    capsys.readouterr()
    picture = cv2.resize(portrait("grace_hopper"), (320, 360))
    with mjpeg_server(lambda k: np.roll(picture, k % 40, axis=1), period=1 / 20) as url:
        address = url.replace("127.0.0.1", "user:secret@127.0.0.1")
        assert invoke(["run", "--source", address, "--headless", "--events", "-", "--max-seconds", "4"]) == 0
    captured = capsys.readouterr()
    assert "secret" not in captured.out + captured.err
    assert [json.loads(line)["name"] for line in captured.out.splitlines()] == ["Grace", "Grace"]


def test_run_without_a_display_says_so(
    film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform != "linux":
        pytest.skip("a display is assumed elsewhere")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert invoke(["run", "--source", str(film)]) == 1
    assert "--headless" in capsys.readouterr().err


def test_run_with_bad_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for source in ("77", str(tmp_path / "missing.mp4"), str(tmp_path / "text.mp4"), "http://127.0.0.1:9/stream"):
        assert invoke(["run", "--headless", "--source", source]) == 12, source
        assert "Traceback" not in capsys.readouterr().err


def test_the_webcam_may_be_pulled_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import facecam.video.sources as sources

    picture = cv2.resize(portrait("grace_hopper"), (320, 360))

    def camera(spec: str, **_: Any) -> CameraSource:
        return CameraSource(0, capture=FakeCapture(lambda k: picture, count=20, period=1 / 60))

    monkeypatch.setattr(sources, "open_source", camera)
    assert invoke(["run", "--headless", "--events", "-", "--reconnect", "never"]) == 12
    captured = capsys.readouterr()
    assert "camera 0" in captured.err and "Traceback" not in captured.err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_a_headless_run(film: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.mp4"
    process = subprocess.Popen(
        [sys.executable, "-m", "facecam", "run", "--headless", "--source", str(film), "--record", str(record)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not record.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=15)
    assert process.returncode == 130, error
    assert "Traceback" not in error


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no Xvfb (Debian package xvfb)")
@pytest.mark.skipif(shutil.which("xdotool") is None, reason="no xdotool (Debian package xdotool)")
def test_run_in_a_real_window_takes_keys(film: Path, tmp_path: Path) -> None:
    with virtual_display() as display:
        environment = dict(os.environ, DISPLAY=display)
        long = tmp_path / "long.mp4"
        picture = cv2.resize(portrait("grace_hopper"), (320, 360))
        with VideoSink(long, SourceInfo("long", 320, 360, fps=25)) as sink:
            for k in range(1500):
                sink.write(picture, k / 25)
        process = subprocess.Popen(
            [sys.executable, "-m", "facecam", "run", "--source", str(long)],
            env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        window = ""
        deadline = time.monotonic() + 60
        while not window and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            search = ["xdotool", "search", "--onlyvisible", "--name", "facecam"]
            window = subprocess.run(search, env=environment, capture_output=True, text=True).stdout.strip()
        assert window, process.communicate(timeout=90)
        for key in ("h", "s", "q"):
            time.sleep(0.7)
            press = ["xdotool", "windowfocus", window.split()[0], "key", "--window", window.split()[0], key]
            subprocess.run(press, env=environment, timeout=20)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert len(list(tmp_path.glob("facecam-*.jpg"))) == 1


def test_help_of_run_is_quick_and_has_an_example() -> None:
    done = facecam("run", "--help")
    assert done.code == 0 and "Example:" in done.out


def test_a_headless_run_that_writes_nothing_says_how_to(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = ["run", "--headless", "--source", str(film), "--max-seconds", "0.3"]
    assert invoke(order) == 0
    assert "--events - prints who" in capsys.readouterr().err
    assert invoke([*order, "--events", "-"]) == 0
    assert "--events - prints who" not in capsys.readouterr().err
