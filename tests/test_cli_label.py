"""facecam label, on real pictures: outputs, their promises, and what happens with bad input."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from facecam.archive.report import CSV_COLUMNS
from facecam.cli import common, invoke
from facecam.values import SourceInfo
from facecam.video.sinks import VideoSink
from tests.support import ASTRONAUT, COFFEE, HOPPER, facecam, lines, portrait


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds: the portrait drifts, from the tenth frame on with the stranger beside it."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    known = cv2.resize(portrait("grace_hopper"), (300, 352), interpolation=cv2.INTER_AREA)
    other = cv2.resize(portrait("astronaut"), (300, 300), interpolation=cv2.INTER_AREA)
    with VideoSink(path, SourceInfo("clip", 640, 360, fps=25)) as sink:
        for k in range(50):
            frame = np.full((360, 640, 3), 90, np.uint8)
            frame[4:356, 5 + k // 2 : 305 + k // 2] = known
            if k >= 10:
                frame[30:330, 338 - k // 5 : 638 - k // 5] = other
            sink.write(frame, 0.5 + k / 25)
    return path


@pytest.fixture
def grace() -> None:
    assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0


def test_a_video_gives_its_outputs(clip: Path, tmp_path: Path, grace: None, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert invoke(["label", str(clip), "--output-dir", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "clip.labelled.mp4",
        "clip.sightings.jsonl",
        "clip.timeline.csv",
        "report.html",
    ]
    header, *frames, summary = lines(out / "clip.sightings.jsonl")
    assert header["type"] == "header" and header["schema"] == "facecam.sightings/1"
    assert (header["width"], header["height"], header["device"]) == (640, 360, "cpu")
    assert header["start_time"] == pytest.approx(0.5, abs=0.001)
    assert set(header["models"]) == {"detector", "scout", "landmarks", "embedder"}
    assert all(len(m["sha256"]) == 64 for m in header["models"].values())
    assert [f["frame"] for f in frames] == list(range(50))
    assert frames[25]["time"] == pytest.approx(1.0, abs=0.001)
    for frame in frames:
        names = [face["name"] for face in frame["faces"]]
        assert names.count("Grace Hopper") == 1, "named from the first frame on"
        for face in frame["faces"]:
            x, y, w, h = face["box"]
            assert 0 <= x <= x + w <= 640 and 0 <= y <= y + h <= 360
            assert face["runner_up"] is None and -1 <= face["similarity"] <= 1
    assert any(None in [f["name"] for f in frame["faces"]] for frame in frames), "the stranger is unknown"
    assert summary["type"] == "summary" and summary["frames"] == 50
    assert summary["people"]["Grace Hopper"]["frames"] == 50
    with (out / "clip.timeline.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    first = next(r for r in rows if r["name"] == "Grace Hopper")
    assert (float(first["start"]), float(first["end"])) == (0.0, pytest.approx(2.0, abs=0.05))
    assert float(first["duration"]) == pytest.approx(float(first["end"]) - float(first["start"]), abs=0.002)
    with av.open(str(out / "clip.labelled.mp4")) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == "h264"
        times = [float(p.pts * stream.time_base) for p in video.demux(stream) if p.pts is not None]
    assert sorted(times) == pytest.approx([0.5 + k / 25 for k in range(50)], abs=0.001)
    assert "Grace Hopper" in capsys.readouterr().out


def test_two_runs_write_the_same_sightings(clip: Path, tmp_path: Path, grace: None) -> None:
    for name in ("a", "b"):
        assert invoke(["label", str(clip), "--no-video", "--output-dir", str(tmp_path / name)]) == 0
    one, two = (lines(tmp_path / name / "clip.sightings.jsonl") for name in ("a", "b"))
    one[-1].pop("timing"), two[-1].pop("timing")
    assert one == two
    assert (tmp_path / "a" / "clip.timeline.csv").read_bytes() == (tmp_path / "b" / "clip.timeline.csv").read_bytes()
    assert not (tmp_path / "a" / "clip.labelled.mp4").exists()


def test_photos_share_one_table(tmp_path: Path, grace: None, capsys: pytest.CaptureFixture[str]) -> None:
    album = tmp_path / "album"
    album.mkdir()
    shutil.copy(HOPPER, album / "one.jpg")
    shutil.copy(ASTRONAUT, album / "two.png")
    shutil.copy(COFFEE, album / "three.png")
    out = tmp_path / "out"
    assert invoke(["label", str(album), "-o", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "one.labelled.jpg",
        "photos.csv",
        "photos.sightings.jsonl",
        "report.html",
        "three.labelled.png",
        "two.labelled.png",
    ]
    _header, *photos, summary = lines(out / "photos.sightings.jsonl")
    found = {Path(p["source"]).name: [f["name"] for f in p["faces"]] for p in photos}
    assert found == {"one.jpg": ["Grace Hopper"], "two.png": [None], "three.png": []}
    assert summary["photos"] == 3 and summary["people"] == {"Grace Hopper": 1}
    with (out / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(Path(r["source"]).name, r["face"], r["name"]) for r in rows} == {
        ("one.jpg", "1", "Grace Hopper"),
        ("two.png", "1", ""),
        ("three.png", "0", ""),
    }
    image, plain = cv2.imread(str(out / "one.labelled.jpg")), cv2.imread(str(HOPPER))
    assert image.shape == plain.shape and (image != plain).any()


def test_nobody_enrolled_is_said_once_and_is_no_failure(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["label", str(clip), str(HOPPER), "--no-video", "-o", str(tmp_path)]) == 0
    error = capsys.readouterr().err
    assert error.count("nobody is enrolled") == 1
    frames = lines(tmp_path / "clip.sightings.jsonl")[1:-1]
    assert {face["name"] for frame in frames for face in frame["faces"]} == {None}


def test_existing_outputs_are_kept_without_the_flag(
    clip: Path, tmp_path: Path, grace: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.timeline.csv").write_text("mine")
    assert invoke(["label", str(clip), "-o", str(tmp_path)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert [p.name for p in tmp_path.glob("clip*")] == ["clip.timeline.csv"]
    assert invoke(["label", str(clip), "-o", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "clip.timeline.csv").read_text() != "mine"


def make_bad(folder: Path, clip: Path) -> dict[str, Path]:
    bad = {
        "missing": folder / "missing.mp4",
        "empty": folder / "empty.mp4",
        "text": folder / "text.mp4",
        "no index": folder / "cut.mp4",
        "empty photo": folder / "empty.jpg",
        "text photo": folder / "text.jpg",
    }
    bad["empty"].touch()
    bad["empty photo"].touch()
    bad["text"].write_text("this is not a video\n" * 50)
    bad["text photo"].write_text("this is not a photo\n" * 50)
    bad["no index"].write_bytes(clip.read_bytes()[:20_000])
    return bad


def test_bad_input_is_one_line_and_leaves_nothing(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, path in make_bad(tmp_path, clip).items():
        out = tmp_path / f"out {name}"
        assert invoke(["label", str(path), "-o", str(out)]) == 12, name
        told = [line for line in capsys.readouterr().err.splitlines() if path.name in line]
        assert len(told) == 1 and "Traceback" not in told[0], name
        left = [p.name for p in out.iterdir()] if out.exists() else []
        assert not [n for n in left if not n.startswith("photos.")], (name, left)


def test_the_good_inputs_are_done_beside_the_bad(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = make_bad(tmp_path, clip)
    out = tmp_path / "out"
    assert invoke(["label", str(bad["text"]), str(clip), str(bad["missing"]), "--no-video", "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert "text.mp4" in error and "missing.mp4" in error
    assert (out / "clip.sightings.jsonl").exists()


def test_a_name_that_leaves_no_room_for_those_of_its_outputs(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As downloads have that are called after their title; the rest is done."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    shutil.copy(clip, inputs / f"{'a' * 245}.mp4")
    shutil.copy(HOPPER, inputs / f"{'b' * 249}.jpg")
    shutil.copy(HOPPER, inputs / "c.jpg")
    assert invoke(["label", str(inputs), "-o", str(tmp_path / "out"), "--xmp"]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot be written" in line]
    assert len(told) == 2 and all("the name is too long" in line for line in told)
    assert (tmp_path / "out" / "c.labelled.jpg").exists() and (inputs / "c.jpg.xmp").exists()


def test_a_one_pixel_photo_and_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    assert invoke(["label", str(tmp_path / "dot.png"), "-o", str(tmp_path / "o")]) == 0
    (tmp_path / "none").mkdir()
    assert invoke(["label", str(tmp_path / "none"), "-o", str(tmp_path / "o2")]) == 1
    assert "no photo or video" in capsys.readouterr().err
    assert not (tmp_path / "o2").exists()


@pytest.mark.parametrize(
    "option",
    [["--threshold", "2"], ["--min-face", "huge"], ["--device", "abacus"], ["--detect-every", "0"], ["--nonsense"]],
)
def test_bad_options(option: list[str], clip: Path, tmp_path: Path) -> None:
    assert invoke(["label", str(clip), "-o", str(tmp_path), *option]) == 2
    assert list(tmp_path.glob("clip*")) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--no-video", "--write", "video"], "nothing of --write"),
        (["--no-video", "--blur", "all"], "--blur and --boxes are about labelled copies"),
        (["--write", "csv,html", "--boxes", "none"], "--blur and --boxes are about labelled copies"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: list[str], said: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who blurs must not believe that the report, which shows every face, is blurred."""
    assert invoke(["label", str(clip), "-o", str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.glob("clip.*"))
    assert (
        invoke(
            [
                "label",
                str(clip),
                "-o",
                str(tmp_path),
                "--no-video",
                "--write",
                "video",
                "--index",
                str(tmp_path / "a.db"),
            ]
        )
        == 0
    )


def test_cuda_without_a_gpu_fails_clearly(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from facecam.zoo.session import choose_device

    if choose_device("auto").name == "cuda":
        pytest.skip("this machine has a GPU")
    assert invoke(["label", str(clip), "--device", "cuda", "-o", str(tmp_path)]) == 1
    assert "--device cuda" in capsys.readouterr().err
    assert invoke(["label", str(clip), "--no-video", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().err.count("running on the CPU") == 1


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("name", "workers"), [("SIGINT", "0"), ("SIGTERM", "0"), ("SIGHUP", "1")])
def test_what_ends_it_in_the_middle_leaves_nothing(
    name: str, workers: str, clip: Path, tmp_path: Path, own_home: Path
) -> None:
    """Ctrl-C, a batch system, a terminal that is closed, which tells all of its processes."""
    long = tmp_path / "long.mp4"
    with VideoSink(long, SourceInfo("long", 640, 360, fps=25)) as sink:
        picture = cv2.resize(portrait("grace_hopper"), (640, 360))
        for k in range(1500):
            sink.write(picture, k / 25)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "facecam", "label", str(long), "-o", str(out), "--workers", workers],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not list(out.glob(".facecam-*")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, getattr(signal, name))
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert "interrupted" in error and "Traceback" not in error
    assert list(out.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_what_is_ignored_stays_ignored() -> None:
    """nohup facecam label: the run outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    other = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray, in a test before this one, takes it for good
    try:
        with common.stopped_cleanly():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, other)


def as_nobody(arguments: list[str], log: Path) -> int:
    """Run the command line in a forked child as another user; modules are loaded before the change of user."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(handle, 1), os.dup2(handle, 2)
            os.setgid(65534), os.setuid(65534)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            code = invoke(arguments)
            sys.stdout.flush(), sys.stderr.flush()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="becomes another user, which takes root")
def test_no_permission_as_another_user(clip: Path, tmp_path: Path) -> None:
    """Root may write anywhere, so the promise is tested as somebody who may not."""
    assert invoke(["label", str(HOPPER), "-o", str(tmp_path / "warm")]) == 0  # loads every module
    assert invoke(["label", str(clip), "-o", str(tmp_path / "warm")]) == 0
    base = Path(tempfile.mkdtemp(prefix="facecam-permission-"))
    try:
        base.chmod(0o755)
        shutil.copy(clip, base / "clip.mp4")
        (base / "clip.mp4").chmod(0o644)
        (base / "locked").mkdir(mode=0o755)
        (base / "closed").mkdir(mode=0o744)  # its list may be read, but no file in it
        shutil.copytree(Path(os.environ["FACECAM_HOME"]) / "models", base / "home" / "models")
        for path in [base / "home", *(base / "home").rglob("*")]:
            os.chown(path, 65534, 65534)
        os.environ["FACECAM_HOME"] = str(base / "home")
        for target in ("locked", "locked/below", "closed"):
            code = as_nobody(["label", str(base / "clip.mp4"), "-o", str(base / target)], tmp_path / "log")
            told = (tmp_path / "log").read_text()
            assert code == 1, told
            assert "no permission" in told and "Traceback" not in told
            assert list((base / "locked").iterdir()) == list((base / "closed").iterdir()) == []
    finally:
        shutil.rmtree(base)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="mounts a small disk, which takes root")
def test_a_full_disk_fails_in_one_line_and_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("no mount allowed here")
    try:
        done = facecam("label", clip, "-o", small)
        assert done.code == 1, done.err
        assert "disk is full" in done.err and "Traceback" not in done.err
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.data
def test_the_hamilton_clip(data: Path, tmp_path: Path) -> None:
    """The figures that the README gives: who is named where, and who never."""
    assert invoke(["enroll", "--from-dir", str(data / "clip" / "people")]) == 0
    assert invoke(["label", str(data / "clip" / "hamilton.mp4"), "--no-video", "-o", str(tmp_path)]) == 0
    frames = lines(tmp_path / "hamilton.sightings.jsonl")[1:-1]
    assert len(frames) == 275
    names = [[face["name"] for face in frame["faces"]] for frame in frames]
    miranda = "Lin-Manuel Miranda"
    assert sum(miranda in n for n in names[82:211]) >= 0.97 * 129
    assert not any(miranda in n for n in names[20:82] + names[211:275])
    assert not any("Joe Biden" in n for n in names)
    wrong = sum(n == "Barack Obama" for row in names[:211] for n in row) + sum(
        n == "Alex Lacamoire" for row in names[82:] for n in row
    )
    assert wrong <= 0.01 * sum(len(row) for row in names)


def test_wrong_input_is_told_alone(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hint that nobody is enrolled comes when the work begins, not before an error in what was asked for."""
    for wrong, code in ((["--people", "Ada"], 10), (["--address", "auto"], 2), (["--index", str(tmp_path)], 2)):
        assert invoke(["label", str(clip), "--no-video", "-o", str(tmp_path / "out"), *wrong]) == code
        assert "so everybody is unknown" not in capsys.readouterr().err
