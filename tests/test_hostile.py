"""Hostile files, a few hundred; `python -m fuzz.hostile` feeds ten thousand. What it found is kept here as tests."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facecam.cli import invoke
from facecam.enrolment import Enroller, EnrolOptions
from facecam.errors import MediaError
from facecam.guidance import of_video
from facecam.video.container import FileSource
from facecam.video.photos import decode_photo, read_photo
from fuzz import files, hostile, special


@pytest.fixture(scope="module")
def outcome(models_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any], Any]:
    """Fed to a home of its own: models that are taken stay there."""
    home = shutil.copytree(models_home, tmp_path_factory.mktemp("hostile") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACECAM_HOME", str(home))
        return hostile.run(count=330, seed=7, specials=False)


@pytest.mark.skipif(os.name != "posix", reason="the watching process uses select on a pipe")
def test_a_few_hundred_mutations(outcome: Any) -> None:
    counts, bad, _ = outcome
    assert bad == [], bad[:3]
    assert sum(counts.values()) == 330
    for route in ("enroll photo", "label photo", "label video", "import", "model"):
        assert counts[f"{route}: refused"] > 0, counts
    assert counts["enroll photo: accepted"] > 10, "not everything is refused at the door"


def test_the_watcher_sees_faults() -> None:
    """A test of the test."""
    good = {"fault": None, "err": "facecam: no\n", "out": "", "seconds": 0.1, "memory": 1, "lines": 1, "code": 12}
    assert hostile.faults_of(good) == []
    for change, wrong in (
        ({"fault": "ValueError: x"}, "traceback"),
        ({"seconds": 6.0}, "slow"),
        ({"memory": 2 << 30}, "memory"),
        ({"lines": 2}, "lines"),
        ({"out": "\x1b[31m"}, "lines"),
        ({"code": 3}, "code"),
    ):
        assert wrong in hostile.faults_of(good | change)


# Bombs: judged from the header, before anything is allocated


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (special.png(12_000, 8_000, 16, 6), "48 megapixels|37 megapixels"),
        (special.png(10_000, 9_000, 8, 6), "75 megapixels"),
        (special.tiff(9_900, 9_900, 64), "37 megapixels"),
        (b"GIF89a" + struct.pack("<HH", 9_900, 9_900) + bytes(50), "37 megapixels"),
        (special.png(30_000, 30_000, 1, 0), "20000 a side"),
    ],
)
def test_deep_and_large_pictures_are_refused_before_decoding(
    data: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facecam.video.photos._decode", lambda data: pytest.fail("it was decoded"))
    with pytest.raises(MediaError, match=said):
        decode_photo(data)


def test_conversion_by_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep, transparent and floating pictures are converted a few rows at a time."""
    chance = np.random.default_rng(1)
    pictures = [
        chance.integers(0, 65_535, (37, 23, 3), np.uint16),
        chance.integers(0, 255, (37, 23, 4), np.uint8),
        chance.normal(size=(37, 23)).astype(np.float32) * 300,
        chance.random((37, 23, 3)).astype(np.float64),
    ]
    from facecam.video import photos

    for picture in pictures:
        whole = photos._as_bgr(picture, premultiplied=False)
        monkeypatch.setattr(photos, "_BLOCK", 50)
        assert np.array_equal(photos._as_bgr(picture, premultiplied=False), whole)
        monkeypatch.undo()


@pytest.mark.filterwarnings("error")
def test_a_floating_picture_far_below_zero_is_black_without_a_warning() -> None:
    picture = np.full((20, 20), 0.5, np.float32)
    picture[3, 3] = -3e38
    done, data = cv2.imencode(".tiff", picture)
    assert done
    image = decode_photo(data.tobytes())
    assert image[3, 3].tolist() == [0, 0, 0] and image[9, 9].tolist() == [127, 127, 127]


# Things that are no files


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
@pytest.mark.parametrize("kind", ["pipe", "endless"])
@pytest.mark.parametrize("suffix", [".jpg", ".mp4"])
def test_a_pipe_or_an_endless_device_is_refused_and_not_read(
    engine: Any, tmp_path: Path, kind: str, suffix: str
) -> None:
    """Enrolment once read /dev/zero until the memory was full."""
    path = tmp_path / f"x{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    enroller = Enroller(engine, EnrolOptions())
    if suffix == ".jpg":
        verdict = enroller.photo(path, lambda digest: False)
    else:
        (verdict,) = of_video(enroller, path, lambda digest: False)
    assert verdict.kind == "cannot be read" and "not a regular file" in verdict.detail


def test_control_characters_of_a_file_s_name_reach_no_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facecam.cli import common

    monkeypatch.setattr(common, "open_engine", lambda given, *rest, **more: engine)
    path = tmp_path / "a\n\x1b[31mb.jpg"
    path.write_bytes(b"no picture")
    for command in (["enroll", "--name", "A", str(path)], ["label", str(path), "-o", str(tmp_path / "out")]):
        assert invoke(command) == 12
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err and "\\x1b" in err, (out, err)


# Videos


def test_a_video_that_says_it_is_huge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    path.write_bytes(files.video(".mkv", "mjpeg", size=(8_200, 5_000), frames=1))
    with pytest.raises(MediaError, match="8200 x 5000"):
        FileSource(path)


@pytest.mark.parametrize("name", ["still.mp4", "fast.mp4", "size.ts"])
def test_odd_but_honest_videos_are_read(tmp_path: Path, name: str) -> None:
    """A frame an hour, 90,000 a second, a size that changes."""
    special.videos(tmp_path)
    with FileSource(tmp_path / name) as source:
        frames = list(source)
    if name == "size.ts":  # three clips one after another; where they meet a frame may be lost
        assert len(frames) >= 20
    else:
        assert len(frames) == 6 and all(b.time > a.time for a, b in pairwise(frames))
    assert len({frame.image.shape for frame in frames}) == (2 if name == "size.ts" else 1)


def test_a_sound_without_a_picture_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "tone.mp4").write_bytes(special.sound())
    with pytest.raises(MediaError, match="no video stream"):
        FileSource(tmp_path / "tone.mp4")


@pytest.mark.parametrize("name", ["playlist.mp4", "concat.mkv", "zip.mp4", "wide.mp4", "boxes.mp4", "deep.mp4"])
def test_what_is_no_video_is_one_line(tmp_path: Path, name: str) -> None:
    special.videos(tmp_path)
    try:
        with FileSource(tmp_path / name) as source:
            list(source)
    except MediaError as error:
        assert "\n" not in str(error)
    else:
        assert name == "wide.mp4", "the pictures are as large as they are, whatever the container says"


def test_a_title_that_is_no_text_is_no_reason_to_fail(tmp_path: Path) -> None:
    """Found by mutation: PyAV decodes titles and makers strictly, unless told otherwise."""
    path = tmp_path / "x.mp4"
    data = files.video(".mp4", "libx264")
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xeeavf"))
    with FileSource(path) as source:
        assert len(list(source)) == 8


# Pictures of every kind are read as what they are


@pytest.mark.parametrize("name", sorted(files.photos()))
def test_every_kind_of_picture_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(files.photos()[name])
    plain = decode_photo(files.photos()["plain.png"]).astype(int)
    image = read_photo(path).astype(int)
    if name == "exif.jpg":  # orientation 6: turned by a quarter
        image = np.rot90(image, 1)
    if name == "alpha.png":
        plain = plain * 200 / 255 + 55
    if name == "grey.jpg":
        plain = plain.mean(axis=2, keepdims=True)
    assert image.shape == (140, 128, 3) and np.abs(image - plain).mean() < (20 if name == "plain.gif" else 12)


def test_cmyk_and_animations(tmp_path: Path) -> None:
    """An Adobe CMYK JPEG shows its colours; of an animation the first picture counts."""
    frames = [np.full((30, 40, 3), value, np.uint8) for value in (40, 200)]
    animation = cv2.Animation()
    animation.frames, animation.durations = [np.dstack([f, np.full((30, 40), 255, np.uint8)]) for f in frames], [50, 50]
    for suffix in (".gif", ".webp", ".png"):
        path = tmp_path / f"moving{suffix}"
        assert cv2.imwriteanimation(str(path), animation)
        assert abs(float(read_photo(path)[15, 20].mean()) - 40) < 20, suffix  # a GIF's palette is coarse


def test_an_exif_block_that_lies_is_no_reason_to_refuse() -> None:
    jpeg = files.photos()["baseline.jpg"]
    plain = decode_photo(jpeg)
    for tiff in (
        b"II*\0\xff\xff\xff\x7f",  # beyond the end
        b"II*\0\x08\0\0\0\xff\xff" + bytes(12),  # 65,535 entries
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x4d\0\0",  # orientation 77
        b"II*\0\0\0\0\0",  # an entry that is its own header
        b"",
    ):
        segment = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
        assert np.array_equal(decode_photo(jpeg[:2] + segment + jpeg[2:]), plain)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["baseline.jpg", "plain.png", "plain.webp", "plain.tiff", "plain.bmp", "plain.gif"])
def test_a_truncated_picture_is_one_line(name: str, part: float) -> None:
    data = files.photos()[name]
    with pytest.raises(MediaError) as error:
        decode_photo(data[: int(len(data) * part)], name)
    assert "\n" not in str(error.value)


def test_a_bomb_in_a_png_s_text_is_not_unpacked(tmp_path: Path) -> None:
    """zTXt and iCCP chunks are compressed, too; a library that unpacks them meets a gigabyte."""
    data = special.png(20, 20, 8, 2)
    packed = zlib.compress(bytes(64 << 20), 9)
    body = b"zTXt" + b"Comment\0\0" + packed
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "x.png").write_bytes(data[:33] + chunk + data[33:])
    hostile.reset_peak()
    before = hostile.peak()
    try:
        read_photo(tmp_path / "x.png")
    except MediaError as error:
        assert "\n" not in str(error)
    assert hostile.peak() - before < 48 << 20
