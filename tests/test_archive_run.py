"""A run over an archive: kept in an index, killed and resumed, given to workers; the outputs are always the same."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facecam.archive import crew
from facecam.archive.crew import Alone, Crew, Outfit, Processes, processes_for
from facecam.archive.index import FAILED, WRITTEN, ArchiveIndex
from facecam.archive.inputs import VIDEO, Item, plan
from facecam.archive.label import Outcome, Tools, label_files, prepare
from facecam.archive.outputs import CROPS, CSV, HTML, JSONL, VIDEO_COPY, VTT, Outputs
from facecam.archive.run import Run
from facecam.archive.study import Study
from facecam.archive.worker import SegmentTask, WriteTask
from facecam.cli import invoke
from facecam.engine import Engine
from facecam.errors import ArchiveError, OutputError
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from facecam.video.sources import FileSource
from facecam.zoo.session import Device
from tests.archive_films import film, pictures
from tests.support import ASTRONAUT, HOPPER, lines

TEXTS = frozenset({JSONL, CSV, VTT, HTML, CROPS})
STUDY = Study(segment=1.1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films (one damaged, one of several segments with a strange name), two photos, an empty file."""
    folder = tmp_path_factory.mktemp("archive") / "in"
    (folder / "sub").mkdir(parents=True)
    film(folder / "sub" / "b 'quoted' \"ñ\".mp4", pictures(48), gop=12)
    film(folder / "c.mkv", pictures(14, strangers=False), gop=7)
    whole = film(folder / "d.mp4", pictures(20), gop=10).read_bytes()
    (folder / "d.mp4").write_bytes(whole[: len(whole) // 2])  # its index is cut off
    (folder / "e.mp4").touch()
    shutil.copy(HOPPER, folder / "known.jpg")
    shutil.copy(ASTRONAUT, folder / "stranger.png")
    return folder


@pytest.fixture
def tools(engine: Engine, own_home: Path) -> Tools:
    assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0
    with Gallery.open(create=False) as gallery:
        matcher = engine.matcher(gallery)
    return Tools(engine, matcher, None, STUDY)


def run(archive: Path, out: Path, tools: Tools, index: ArchiveIndex | None = None, **more: Any) -> Outcome:
    """Label the archive with a book of its own; outputs never say how they came about."""
    items, problems = plan([str(archive)])
    assert not problems
    outputs = Outputs(out, TEXTS)
    prepare(outputs)
    book = UnknownBook(None, tools.engine.embedder.space, tools.engine.threshold)
    return label_files(
        items, Tools(tools.engine, tools.matcher, book, tools.study, tools.only), outputs, index=index, **more
    )


def contents(folder: Path) -> dict[str, Any]:
    """All outputs, without what tells the time; half-written files do not count."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith(".facecam-"):
            continue
        name = str(path.relative_to(folder))
        if path.suffix == ".jsonl":
            entries = lines(path)
            entries[-1].pop("timing")
            found[name] = entries
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def undisturbed(
    archive: Path, engine: Engine, models_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The outputs of a run in one go, without an index."""
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(models_home / "models")
    before, os.environ["FACECAM_HOME"] = os.environ.get("FACECAM_HOME"), str(home)
    try:
        assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0
        with Gallery.open(create=False) as gallery:
            tools = Tools(engine, engine.matcher(gallery), None, STUDY)
        out = tmp_path_factory.mktemp("undisturbed") / "out"
        outcome = run(archive, out, tools)
    finally:
        if before is None:
            del os.environ["FACECAM_HOME"]
        else:
            os.environ["FACECAM_HOME"] = before
    assert len(outcome.done) == 4 and len(outcome.problems) == 2
    assert "d.mp4" in outcome.problems[0] and "e.mp4" in outcome.problems[1]
    return contents(out)


def test_what_a_run_writes(undisturbed: dict[str, Any]) -> None:
    base = "sub/b 'quoted' \"ñ\""
    assert {f"{base}.sightings.jsonl", f"{base}.timeline.csv", f"{base}.vtt", "c.sightings.jsonl"} <= set(undisturbed)
    assert {"report.html", "photos.csv", "photos.sightings.jsonl"} <= set(undisturbed)
    frames = undisturbed[f"{base}.sightings.jsonl"][1:-1]
    assert [line["frame"] for line in frames] == list(range(48))
    names = [{face["name"] or face["unknown"] for face in line["faces"]} for line in frames]
    assert all("Grace Hopper" in n for n in names), "named from the first frame on, over all borders"
    assert {face["unknown"] for line in frames for face in line["faces"]} == {None, 1}
    photos = {Path(line["source"]).name: line["faces"] for line in undisturbed["photos.sightings.jsonl"][1:-1]}
    assert photos["known.jpg"][0]["name"] == "Grace Hopper" and "track" not in photos["known.jpg"][0]
    assert photos["stranger.png"][0]["unknown"] == 1, "the stranger of the film"
    assert any(name.startswith("crops/Grace Hopper/") for name in undisturbed)
    assert b"d.mp4" in undisturbed["report.html"]


class _Stopped(Exception):
    """Stands for the end of the process."""


class Breaking:
    """A crew whose process ends after so many answers; counts what it looked at."""

    def __init__(self, inner: Crew, answers: int, studied: list[Any]) -> None:
        self._inner, self._left, self._studied = inner, answers, studied

    @property
    def idle(self) -> int:
        return self._inner.idle

    @property
    def busy(self) -> int:
        return self._inner.busy

    def submit(self, key: Hashable, task: Any) -> None:
        if isinstance(task, SegmentTask):
            self._studied.append((task.path, task.limits))
        self._inner.submit(key, task)

    def wait(self) -> tuple[Hashable, Any]:
        self._left -= 1
        if self._left < 0:
            raise _Stopped
        return self._inner.wait()

    def close(self) -> None:
        self._inner.close()


def breaking(tools: Tools, answers: int, studied: list[Any]) -> Callable[[Any], Crew]:
    return lambda tick: Breaking(Alone(tools.engine, tools.matcher, tick), answers, studied)


@pytest.mark.parametrize("step", [3, 5])  # two of the inputs fail anew in every attempt
def test_a_run_that_is_stopped_again_and_again_ends_the_same(
    step: int, archive: Path, tools: Tools, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped between any two steps; every segment is looked at once, and once more at most where it was lost."""
    studied: list[Any] = []
    for attempt in range(100):  # noqa: B007  counted
        with ArchiveIndex.open(tmp_path / "archive.db", create=True) as index:
            try:
                run(archive, tmp_path / "out", tools, index, resume=True, crew=breaking(tools, step, studied))
                break
            except _Stopped:
                pass
    assert attempt >= 1
    assert contents(tmp_path / "out") == undisturbed
    done = [entry for entry in studied if entry[0].name not in ("d.mp4", "e.mp4")]
    lost = len(done) - len(set(done))
    assert lost <= attempt, "what was finished is not done again"
    assert (tmp_path / "archive.db").stat().st_mode & 0o777 == 0o600
    with ArchiveIndex.open(tmp_path / "archive.db") as index:
        assert sum(entry.state == WRITTEN for entry in index.entries()) == 4


def test_a_finished_run_does_nothing_when_resumed(archive: Path, tools: Tools, tmp_path: Path) -> None:
    studied: list[Any] = []
    with ArchiveIndex.open(tmp_path / "archive.db", create=True) as index:
        run(archive, tmp_path / "out", tools, index)
        first = contents(tmp_path / "out")
        times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.csv") if p.name != "photos.csv"}
        outcome = run(archive, tmp_path / "out", tools, index, resume=True, crew=breaking(tools, 10**6, studied))
    assert studied == [] and all(done.kept for done in outcome.done) and len(outcome.problems) == 2
    assert contents(tmp_path / "out") == first
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())


@pytest.mark.parametrize("gone", [(0, 20), (12, 30)])
def test_a_long_film_with_a_hole_is_labelled_around_it(
    gone: tuple[int, int], tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy with bad sectors: of a whole segment, or of two, no frame can be decoded."""
    path = tmp_path / "in" / "hole.avi"
    path.parent.mkdir()
    data = bytearray(film(path, pictures(36), codec="mjpeg").read_bytes())
    place, number = data.find(b"movi") + 4, 0
    while data[place : place + 4] == b"00dc":
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if gone[0] <= number < gone[1]:
            data[place + 8 : place + 8 + size] = bytes(size)
        place, number = place + 8 + size + size % 2, number + 1
    assert number == 36
    path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    assert invoke(["label", str(path), "-o", "out", "--segment", "1.1", "--blur", "unknown"]) == 0
    entries = lines(tmp_path / "out" / "hole.sightings.jsonl")
    assert entries[-1]["frames"] == len(entries) - 2 == 36 - (gone[1] - gone[0])
    assert entries[-1]["damaged"] > 0 and "Grace Hopper" in entries[-1]["people"]
    with FileSource(tmp_path / "out" / "hole.labelled.mp4") as copy:
        assert sum(1 for _ in copy) == entries[-1]["frames"]
    # A stretch in which there is nothing to see is told, as is one behind the end; what comes next is done anyway.
    film(tmp_path / "in" / "later.mkv", pictures(14), gop=7)
    for start in (gone[0] / 10, 90)[not gone[0] :]:  # times count from the first frame that there is
        end = start + (gone[1] - gone[0]) / 10 - 0.05
        more = ["--start", str(start), "--end", str(end), "--segment", "1.1", "--no-video"]
        outcome = invoke(["label", "in", "-o", str(tmp_path / f"from{start}"), "--index", f"{start}.db", *more])
        assert outcome == 1
        with ArchiveIndex.open(tmp_path / f"{start}.db") as index:
            told = [(entry.item.path.name, entry.state) for entry in index.entries()]
        assert told == [("hole.avi", FAILED), ("later.mkv", WRITTEN if start < 1.4 else FAILED)]


def test_a_changed_file_is_done_again_and_a_touched_one_is_not(archive: Path, tools: Tools, tmp_path: Path) -> None:
    copy = tmp_path / "in"
    copy.mkdir()
    shutil.copy(archive / "c.mkv", copy / "c.mkv")
    shutil.copy(archive / "known.jpg", copy / "known.jpg")
    studied: list[Any] = []
    with ArchiveIndex.open(tmp_path / "archive.db", create=True) as index:
        run(copy, tmp_path / "out", tools, index)
        os.utime(copy / "c.mkv", (1, 1))
        shutil.copy(ASTRONAUT, copy / "known.jpg")
        run(copy, tmp_path / "out", tools, index, resume=True, crew=breaking(tools, 10**6, studied))
    assert [path.name for path, _ in studied] == ["known.jpg"]
    assert lines(tmp_path / "out" / "photos.sightings.jsonl")[1]["faces"][0]["name"] is None


@pytest.mark.parametrize("now", ["shorter", "longer"])
def test_what_changed_before_it_was_drawn_on_is_told_and_not_drawn(
    now: str, archive: Path, tools: Tools, tmp_path: Path
) -> None:
    """As a recording that goes on: its new pictures nobody looked at, and boxes or blurring would miss on others."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    video, photo = film(inputs / "a.mkv", pictures(14), gop=7), inputs / "b.jpg"
    shutil.copy(archive / "known.jpg", photo)
    shutil.copy(archive / "known.jpg", inputs / "c.jpg")

    class Changing(Alone):
        def submit(self, key: Hashable, task: Any) -> None:
            self._worker._picture = None  # as if another process had studied the photo
            if isinstance(task, WriteTask) and task.sheet.path == video:
                film(video, pictures(7 if now == "shorter" else 28), gop=7)
            elif isinstance(task, WriteTask) and task.sheet.path == photo:
                shutil.copy(ASTRONAUT, photo)
            super().submit(key, task)

    def label(crew: Any = None) -> Outcome:
        outputs = Outputs(tmp_path / "out", frozenset({VIDEO_COPY, JSONL}), blur="all")
        return label_files(plan([str(inputs)])[0], tools, outputs, index=index, resume=True, crew=crew)

    with ArchiveIndex.open(tmp_path / "archive.db", create=True) as index:
        outcome = label(lambda tick: Changing(tools.engine, tools.matcher, tick))
        assert [done.path.name for done in outcome.done] == ["c.jpg"]
        for line, path in zip(outcome.problems, (video, photo), strict=True):
            assert line.startswith(f"{path}: changed while it was labelled")
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"c.labelled.jpg", "photos.sightings.jsonl"}
        outcome = label()
    assert not outcome.problems and [done.kept for done in outcome.done] == [False, False, True]
    frames = 7 if now == "shorter" else 28
    assert len(lines(tmp_path / "out" / "a.sightings.jsonl")) == 2 + frames
    with FileSource(tmp_path / "out" / "a.labelled.mp4") as copy:
        assert sum(1 for _ in copy) == frames


def test_a_video_that_gives_fewer_pictures_when_it_is_read_again_does_not_end_the_run(
    archive: Path, tools: Tools, tmp_path: Path
) -> None:
    """As on a disk that is dying."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    video = film(inputs / "a.mkv", pictures(14), gop=7)
    shutil.copy(archive / "known.jpg", inputs)

    class Dying(Alone):
        def submit(self, key: Hashable, task: Any) -> None:
            if isinstance(task, WriteTask) and task.sheet.path == video:
                status = video.stat()
                film(video, pictures(7), gop=7)
                os.truncate(video, status.st_size)
                os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
            super().submit(key, task)

    outputs = Outputs(tmp_path / "out", frozenset({VIDEO_COPY}))
    prepare(outputs)
    items = plan([str(inputs)])[0]
    outcome = label_files(items, tools, outputs, crew=lambda tick: Dying(tools.engine, tools.matcher, tick))
    assert [done.path.name for done in outcome.done] == ["known.jpg"]
    assert "a.mkv: gave fewer pictures" in outcome.problems[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["known.labelled.jpg"]


def test_a_file_that_vanishes_when_a_run_goes_on(
    archive: Path, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a disk that is pulled out; nothing of it is read any more, and the run does not end with it."""
    photo = tmp_path / "in" / "a.jpg"
    photo.parent.mkdir()
    shutil.copy(archive / "known.jpg", photo)
    with ArchiveIndex.open(tmp_path / "archive.db", create=True) as index:
        run(photo.parent, tmp_path / "out", tools, index)
        same = Run._same

        def gone(self: Run, known: Any) -> Any:
            found = same(self, known)
            photo.unlink()
            return found

        monkeypatch.setattr(Run, "_same", gone)
        outcome = run(photo.parent, tmp_path / "out", tools, index, resume=True)
    assert not outcome.problems and [done.kept for done in outcome.done] == [True]


def test_a_run_that_goes_on_keeps_sidecars_of_other_programs(tools: Tools, tmp_path: Path) -> None:
    photo, sidecar = tmp_path / "in" / "a.jpg", tmp_path / "in" / "a.jpg.xmp"
    photo.parent.mkdir()
    shutil.copy(HOPPER, photo)
    sidecar.write_text("of another program")
    command = ["label", str(photo), "-o", str(tmp_path), "--xmp", "--index", str(tmp_path / "a.db")]
    for more in ([], ["--resume"], ["--resume"]):
        assert invoke([*command, *more]) == 1
        assert sidecar.read_text() == "of another program"
    sidecar.rename(tmp_path / "kept.xmp")
    assert invoke([*command, "--resume"]) == 0
    assert "Grace Hopper" in sidecar.read_text()


def test_other_settings_are_another_analysis(archive: Path, tools: Tools, tmp_path: Path) -> None:
    studied: list[Any] = []
    only = tmp_path / "in"
    only.mkdir()
    shutil.copy(archive / "c.mkv", only / "c.mkv")
    with ArchiveIndex.open(tmp_path / "archive.db", create=True) as index:
        run(only, tmp_path / "out", tools, index)
        other = Tools(tools.engine, tools.matcher, None, Study(segment=1.1, every="2"))
        run(only, tmp_path / "out", other, index, resume=True, crew=breaking(tools, 10**6, studied))
    assert studied and len(lines(tmp_path / "out" / "c.sightings.jsonl")) == 2 + 7


def test_without_resume_existing_outputs_are_kept(archive: Path, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        run(archive, tmp_path / "out", tools)
    (tmp_path / "out" / "report.html").unlink()
    (tmp_path / "out" / "c.timeline.csv").write_text("mine")
    outcome = run(archive, tmp_path / "out", tools)
    assert any("c.timeline.csv" in line for line in outcome.problems)
    assert (tmp_path / "out" / "c.timeline.csv").read_text() == "mine"


# --- workers ---------------------------------------------------------------------------------------------


def test_two_workers_one_of_which_is_killed_give_the_same(
    archive: Path, tools: Tools, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    crews: list[Processes] = []

    def crew(tick: Any) -> Crew:
        crews.append(Processes(Outfit.of(tools.engine, tools.matcher, 1), 2))
        threading.Thread(target=killer, daemon=True).start()
        return crews[0]

    killed: list[int] = []

    def killer() -> None:
        """Kill a worker while it has a segment under way."""
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            for hand in crews[0]._hands:
                if isinstance(hand.task, SegmentTask) and hand.task.path.suffix == ".mp4":
                    os.kill(hand.process.pid, signal.SIGKILL)
                    killed.append(hand.process.pid)
                    break
            time.sleep(0.01)

    outcome = run(archive, tmp_path / "out", tools, crew=crew)
    assert killed and len(outcome.problems) == 2
    assert contents(tmp_path / "out") == undisturbed
    for pid in killed:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_that_dies_when_it_has_written_is_no_failure(archive: Path, tools: Tools, tmp_path: Path) -> None:
    """Its outputs are there, and are ours."""

    class Deadly(Processes):
        def _send(self, hand: Any) -> None:
            super()._send(hand)
            if isinstance(hand.task, WriteTask) and not hand.tries:
                hand.pipe.recv()  # its answer, which is lost with it
                os.kill(hand.process.pid, signal.SIGKILL)

    outputs = Outputs(tmp_path, frozenset({JSONL, CROPS}))
    crew = lambda tick: Deadly(Outfit.of(tools.engine, tools.matcher, 1), 1)  # noqa: E731
    outcome = label_files(plan([str(archive / "c.mkv")])[0], tools, outputs, crew=crew)
    assert not outcome.problems and len(outcome.done[0].outputs) == 2


def test_a_file_that_kills_every_worker_is_reported(archive: Path, tools: Tools, tmp_path: Path) -> None:
    crews: list[Processes] = []

    class Deadly(Processes):
        def _send(self, hand: Any) -> None:
            super()._send(hand)
            if isinstance(hand.task, SegmentTask) and hand.task.path.name == "c.mkv":
                os.kill(hand.process.pid, signal.SIGKILL)

    def crew(tick: Any) -> Crew:
        crews.append(Deadly(Outfit.of(tools.engine, tools.matcher, 1), 1))
        return crews[0]

    outcome = run(archive, tmp_path / "out", tools, crew=crew)
    (told,) = [line for line in outcome.problems if "c.mkv" in line]
    assert "worker" in told and len(outcome.done) == 3
    assert not (tmp_path / "out" / "c.sightings.jsonl").exists()


@pytest.mark.parametrize(
    ("files", "many", "cores", "gigabytes", "people", "device", "count"),
    [
        (3, 1000, 2, 8, 5, "cpu", 2),
        (9, 1000, 16, 64, 5, "cpu", 8),
        (9, 1000, 16, 7, 5, "cpu", 3),
        (9, 1000, 16, 3, 5, "cpu", 0),
        (9, 1000, 1, 8, 5, "cpu", 0),
        (9, 1000, 8, 64, 5, "cuda", 0),
        (9, 1000, 8, 64, 10**6, "cpu", 0),
        (9, 10**9, 8, 64, 5, "cpu", 0),
        (300, 10**9, 4, 64, 5, "cpu", 2),
        (1, 1000, 2, 8, 5, "cpu", 2),  # a film of four pieces
        (1, 1000, 16, 64, 5, "cpu", 4),
        (2, 1000, 16, 64, 5, "cpu", 5),  # and one that is not there
    ],
)
def test_there_are_as_many_processes_as_pay(
    archive: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch, files: int, many: int, cores: int, gigabytes: int,
    people: int, device: str, count: int,
) -> None:  # fmt: skip
    (film,) = (archive / "sub").iterdir()
    items = [Item(path, VIDEO, "x") for path in [film, *(archive / "gone.mp4",) * (files - 1)]]
    monkeypatch.setattr(crew, "cores", lambda: cores)
    monkeypatch.setattr(crew, "_memory", lambda: gigabytes << 30)
    monkeypatch.setattr(crew, "_MANY_BYTES", many)
    matcher: Any = range(people)
    mine = replace(tools, engine=replace(tools.engine, device=Device(device)), matcher=matcher)
    assert processes_for(items, mine) == count


def test_many_files_are_done_by_processes_unless_asked_otherwise(
    archive: Path, tools: Tools, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class Seen(Processes):
        def _start(self, hand: Any) -> None:
            made.append(1)
            super()._start(hand)

    monkeypatch.setattr(crew, "Processes", Seen)
    monkeypatch.setattr(crew, "_MANY_FILES", 2)
    monkeypatch.setattr(crew, "cores", lambda: 2)
    more = ["--segment", "1.1", "--write", "jsonl,csv,vtt,html,crops", "--progress", "none"]
    assert invoke(["label", str(archive), "-o", str(tmp_path / "alone"), "--workers", "0", *more]) == 1 and not made
    assert invoke(["label", str(archive), "-o", str(tmp_path / "out"), *more]) == 1 and len(made) == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "alone") == undisturbed


@pytest.mark.slow
def test_a_ray_cluster_one_of_whose_workers_is_killed_gives_the_same(
    archive: Path, tools: Tools, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra facecam[ray] is not installed")
    from facecam.archive.raycrew import RayActors

    killed: list[int] = []

    class Watched(RayActors):
        def submit(self, key: Hashable, task: Any) -> None:
            pids = [] if killed else self.pids()
            super().submit(key, task)
            if isinstance(task, SegmentTask) and task.path.suffix == ".mp4" and not killed:
                time.sleep(0.3)  # it is at work
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    outfit = Outfit.of(tools.engine, tools.matcher, 1)
    outcome = run(archive, tmp_path / "out", tools, crew=lambda tick: Watched(outfit, 2, None))
    assert killed and len(outcome.problems) == 2, outcome.problems
    assert contents(tmp_path / "out") == undisturbed


def test_ray_that_is_absent_is_said_in_a_line(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert invoke(["label", str(archive / "c.mkv"), "-o", str(tmp_path), "--engine", "ray"]) == 1
    assert "pip install 'facecam[ray]'" in capsys.readouterr().err


# --- the command -----------------------------------------------------------------------------------------


def label_command(archive: Path, folder: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, resuming."""
    command = [
        *(sys.executable, "-m", "facecam", "label", str(archive), "-o", str(folder / "out"), "--segment", "1.1"),
        *(
            "--write",
            "jsonl,csv,vtt,html,crops",
            "--index",
            str(folder / "archive.db"),
            "--resume",
            "--progress",
            "none",
        ),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed(
    kills: int, archive: Path, tools: Tools, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """SIGKILL again and again; whenever a run gets to its end, its outputs are those of an undisturbed one."""
    random = np.random.default_rng(kills)
    killed = ended = 0
    while killed < kills or not ended:
        process = label_command(archive, tmp_path)
        if killed < kills:
            # Counted from when there is something to lose, so that not only slow starts are killed.
            while not (tmp_path / "archive.db").exists() and process.poll() is None:
                time.sleep(0.01)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(float(random.uniform(0.2, 3.0)))
            if process.poll() is None:
                process.kill()
                process.communicate()
                killed += 1
                continue
        _, error = process.communicate(timeout=240)
        assert process.returncode == 1, error
        assert error.count("d.mp4") == 1 and error.count("e.mp4") == 1 and "Traceback" not in error
        assert contents(tmp_path / "out") == undisturbed
        ended += 1
        shutil.rmtree(tmp_path / "out")
        for path in tmp_path.glob("archive.db*"):
            path.unlink()


def test_all_failures_are_told_even_when_the_report_cannot_be_written(
    archive: Path, tmp_path: Path, tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that became full: the last line must not hide the ones before it."""
    (tmp_path / "out" / "photos.csv").mkdir(parents=True)
    inputs = [str(archive / name) for name in ("known.jpg", "e.mp4")]
    assert invoke(["label", *inputs, "-o", str(tmp_path / "out"), "--overwrite", "--no-video"]) == 1
    told = capsys.readouterr()
    assert "e.mp4: the file is empty" in told.err and "photos.csv" in told.err.splitlines()[-1]
    assert "1 of 1 photos" in told.out and "wrote" not in told.out


def test_resume_takes_an_index(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert invoke(["label", str(HOPPER), "-o", str(tmp_path), "--resume"]) == 2
    assert "--index" in capsys.readouterr().err


def test_a_list_on_standard_input(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: Tools) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{archive / 'known.jpg'}\n\n{archive / 'stranger.png'}\n"))
    assert invoke(["label", "-", "-o", str(tmp_path), "--write", "jsonl"]) == 0
    assert len(lines(tmp_path / "photos.sightings.jsonl")) == 4


def test_people_restricts_the_names(
    archive: Path, tmp_path: Path, tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["enroll", "--name", "Eileen Collins", str(ASTRONAUT)]) == 0
    more = ["-o", str(tmp_path), "--write", "jsonl", "--people", "Eileen Collins"]
    assert invoke(["label", str(archive / "known.jpg"), str(archive / "stranger.png"), *more]) == 0
    told = [
        (line["faces"][0]["name"], line["faces"][0]["unknown"])
        for line in lines(tmp_path / "photos.sightings.jsonl")[1:-1]
    ]
    assert told == [(None, None), ("Eileen Collins", None)], "somebody who has a name is no unknown person"
    assert invoke(["label", str(archive), *more, "--people", "Nobody"]) == 10
    assert "Nobody" in capsys.readouterr().err


def test_a_run_that_goes_on_with_other_people_names_anew(archive: Path, tmp_path: Path, tools: Tools) -> None:
    assert invoke(["enroll", "--name", "Eileen Collins", str(ASTRONAUT)]) == 0
    more = ["-o", str(tmp_path), "--write", "csv", "--index", str(tmp_path / "a.db"), "--resume"]
    inputs = ["label", str(archive / "known.jpg"), str(archive / "stranger.png"), *more]

    def named() -> list[str]:
        with (tmp_path / "photos.csv").open(newline="") as file:
            return [row["name"] for row in csv.DictReader(file)]

    assert invoke(inputs) == 0
    assert named() == ["Grace Hopper", "Eileen Collins"]
    assert invoke([*inputs, "--people", "Eileen Collins"]) == 0
    assert named() == ["", "Eileen Collins"]
    assert invoke(inputs) == 0
    assert named() == ["Grace Hopper", "Eileen Collins"]


def test_a_run_that_goes_on_adds_to_what_is_written_for_all(archive: Path, tmp_path: Path, tools: Tools) -> None:
    more = ["-o", str(tmp_path), "--write", "csv,jsonl", "--index", str(tmp_path / "a.db"), "--resume"]

    def told() -> list[str]:
        with (tmp_path / "photos.csv").open(newline="") as file:
            return [row["source"].rsplit("/")[-1] for row in csv.DictReader(file)]

    assert invoke(["label", str(archive / "known.jpg"), *more]) == 0
    assert told() == ["known.jpg"]
    assert invoke(["label", str(archive / "stranger.png"), *more]) == 0
    assert told() == ["known.jpg", "stranger.png"]
    assert lines(tmp_path / "photos.sightings.jsonl")[-1]["photos"] == 2
    assert invoke(["label", str(archive / "known.jpg"), *more]) == 0
    assert sorted(told()) == ["known.jpg", "stranger.png"], "nobody twice"


def test_a_video_called_photos_beside_photos(archive: Path, tmp_path: Path, tools: Tools) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(archive / "c.mkv", folder / "Photos.mkv")
    shutil.copy(archive / "known.jpg", folder)
    out = tmp_path / "out"
    assert invoke(["label", str(folder), "-o", str(out), "--write", "jsonl,csv"]) == 0
    assert lines(out / "photos.sightings.jsonl")[-1]["photos"] == 1
    assert lines(out / "Photos.mkv.sightings.jsonl")[-1]["frames"] == 14
    alone = tmp_path / "alone"
    assert invoke(["label", str(folder / "Photos.mkv"), "-o", str(alone), "--write", "jsonl"]) == 0
    assert (alone / "Photos.sightings.jsonl").is_file()


def test_boxes_of_a_picture_that_grows_are_whole(tmp_path: Path, tools: Tools) -> None:
    """A transport stream may change its picture's size; boxes are in pixels of their own frame."""
    small, large = pictures(10, (320, 240)), pictures(10, (640, 480))
    for image in large:
        image[:] = np.roll(image, 320, axis=1)
    parts = [film(tmp_path / f"{len(images[0])}.ts", images) for images in (small, large)]
    (tmp_path / "grows.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert invoke(["label", str(tmp_path / "grows.ts"), "-o", str(tmp_path), "--write", "jsonl"]) == 0
    found = lines(tmp_path / "grows.sightings.jsonl")
    assert (found[0]["width"], found[0]["height"]) == (320, 240)
    boxes = [face["box"] for line in found[11:21] for face in line["faces"]]
    assert boxes
    assert min(box[2] for box in boxes) > 40
    assert max(box[0] for box in boxes) > 320


def test_a_stretch_of_a_video_with_its_copy(archive: Path, tmp_path: Path, tools: Tools) -> None:
    video = archive / "c.mkv"
    more = ["--start", "0.4", "--end", "1.0", "--every", "2", "-o", str(tmp_path), "--write", "jsonl,video"]
    assert invoke(["label", str(video), *more]) == 0
    frames = lines(tmp_path / "c.sightings.jsonl")[1:-1]
    assert [f["frame"] for f in frames] == [0, 2, 4] and [f["time"] for f in frames] == [0.4, 0.6, 0.8]
    from facecam.video.sources import FileSource

    with FileSource(tmp_path / "c.labelled.mp4") as copy:
        seen = list(copy)
    assert len(seen) == 6 and seen[0].time == pytest.approx(0.0, abs=0.01)
    plain = np.full((240, 320, 3), 90, np.uint8)
    assert all(cv2.absdiff(frame.image, plain).max() > 100 for frame in seen)


def test_two_runs_do_not_share_an_index(
    archive: Path, tmp_path: Path, tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    from facecam.archive.lock import alone

    index, link = tmp_path / "archive.db", tmp_path / "link.db"
    link.symlink_to(index)
    with alone(index):
        for path in (index, link):
            assert invoke(["label", str(HOPPER), "-o", str(tmp_path), "--index", str(path)]) == 1
            assert "another facecam" in capsys.readouterr().err
    assert invoke(["label", str(HOPPER), "-o", str(tmp_path), "--index", str(index)]) == 0


# --- the index -------------------------------------------------------------------------------------------


def test_a_temporary_index_that_finds_no_room_says_where() -> None:
    with contextlib.closing(ArchiveIndex.temporary()) as index:
        index._db._connection.execute("PRAGMA max_page_count = 30").fetchone()  # as on a disk that is full
        with pytest.raises(OutputError, match=r"temporary archive index .*TMPDIR.*disk is full"):
            for n in range(1000):
                item = Item(Path(f"{n}.mp4"), VIDEO, str(n))
                index.enter(item, size=0, modified=0, digest="", params="", space="", info={}, limits=[(None, None)])


def test_an_index_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no such archive index"):
        ArchiveIndex.open(tmp_path / "absent.db")
    (tmp_path / "text.db").write_text("this is no database, however long it may be" * 100)
    with pytest.raises(ArchiveError, match="move it away"):
        ArchiveIndex.open(tmp_path / "text.db", create=True)
    Gallery.open(tmp_path / "gallery.db").close()
    with pytest.raises(ArchiveError, match="archive index"):
        ArchiveIndex.open(tmp_path / "gallery.db", create=True)
