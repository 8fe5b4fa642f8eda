"""What is no video is told by what it is; what is cut short is told to be, whatever its container."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.archive.inputs import PHOTO, VIDEO, plan
from facecam.cli import invoke
from facecam.errors import MediaError
from facecam.video.container import FileSource
from facecam.video.content import HEAD, describe
from facecam.video.photos import decode_photo
from facecam.video.wholeness import cut_short
from fuzz import files
from tests.fakes import make_clip, quarters, smooth


def _zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("holiday.mp4", b"x" * 500)
    return data.getvalue()


def _coded(suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, quarters(64, 48))
    assert done
    return data.tobytes()


STRANGE = {
    "text": (b"milk, bread, butter\n" * 9, "it is text"),
    "a word": (b"hello\n", "it is text"),  # shorter than the header of an MP4's first box
    "text like a box": (b"The free world is large", "it is text"),  # "free" where a box has its name
    "umlauts": ("Käse ".encode() * 2000, "it is text"),
    "page": (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
    "zip": (_zip(), "it is a ZIP archive (unpack it first)"),
    "zeros": (bytes(70_000), "nothing but zeros"),
    "pdf": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "it is a PDF document"),
    "noise": (np.random.default_rng(1).bytes(50_000), "its kind is not known"),
    **{suffix: (_coded(suffix), f"give it the suffix {suffix} ") for suffix in (".jpg", ".png", ".bmp", ".webp")},
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_video_is_told_by_what_it_is(tmp_path: Path, name: str) -> None:
    content, said = STRANGE[name]
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        FileSource(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: not a video: ") and said in line and "\n" not in line
    assert "expected MP4" in line or "as a photo" in line


def test_a_picture_that_nothing_reads_is_not_taken_for_a_broken_video(tmp_path: Path) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x0cmeta\0\0\0\0\0\0\0\x08mdat"
    grey = b"P5 16 16 255\n" + bytes(256)
    for name, content, said in (
        ("IMG_1.mov", heic, "a picture of kind HEIC"),
        ("a.jp2", cv2.imencode(".jp2", np.zeros((32, 32, 3), np.uint8))[1].tobytes(), "a picture of kind JPEG 2000"),
        ("a.pgm", grey, "a single picture"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError) as caught:
            FileSource(tmp_path / name)
        line = f"{tmp_path / name}: not a video: it is {said}, which is not read; convert it to JPEG"
        assert str(caught.value) == line
    # Named by its own suffix it is a photo, in a folder, too, so that it is told and not left out.
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "IMG_2.HEIC").write_bytes(heic)
    (tmp_path / "download").write_bytes(heic)
    items, problems = plan([str(tmp_path / "phone"), str(tmp_path / "download")])
    assert [item.kind for item in items] == [PHOTO, PHOTO] and not problems


def test_a_photo_is_not_told_to_take_the_suffix_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "face.JPEG"
    path.write_bytes(_coded(".jpg"))
    with pytest.raises(MediaError, match=r"face\.JPEG: not a video: it is a JPEG image; facecam label reads photos$"):
        FileSource(path)


def test_what_is_no_photo_is_told_by_what_it_is() -> None:
    for content, said in ((b"milk, bread", "it is text"), (_zip(), "ZIP archive"), (b"%PDF-1.4", "PDF")):
        with pytest.raises(MediaError, match=f"not an image: it is .*{said}|not an image: {said}"):
            decode_photo(content)


@given(st.binary(max_size=2 * HEAD))
def test_any_beginning_can_be_judged(data: bytes) -> None:
    what = describe(data[:HEAD])
    assert what is None or what.isprintable()
    cut_short(io.BytesIO(b"\x1a\x45\xdf\xa3" + data), len(data) + 4, Path("x.mkv"))
    cut_short(io.BytesIO(b"RIFF" + data[:4] + b"AVI " + data), 12 + len(data), Path("x.avi"))
    cut_short(io.BytesIO(b"FLV\x01" + data), 4 + len(data), Path("x.flv"))
    cut_short(io.BytesIO(b"OggS" + data), 4 + len(data), Path("x.ogv"))


def test_a_picture_that_is_named_is_a_photo_whatever_it_is_called(tmp_path: Path) -> None:
    for name, content in (("IMG_0001", _coded(".jpg")), ("clip.download", b"\0\0\0\x18ftypmp42"), ("a.mp4", b"")):
        (tmp_path / name).write_bytes(content)
    items, problems = plan([str(tmp_path / name) for name in ("IMG_0001", "clip.download", "a.mp4")])
    assert [item.kind for item in items] == [PHOTO, VIDEO, VIDEO] and not problems


def test_pictures_with_exif_in_a_video_are_read_and_turned(tmp_path: Path) -> None:
    """Cameras that write JPEG pictures into an AVI or MOV put EXIF into each; PyAV cannot list that."""
    plain = _coded(".jpg")
    for orientation in (1, 3, 6, 8):
        picture = plain[:2] + files._exif(orientation) + plain[2:]
        path = tmp_path / f"{orientation}.mkv"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("mjpeg", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            for number in range(3):
                packet = av.Packet(picture)
                packet.pts = packet.dts = number * 100
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 1000), stream, True
                output.mux(packet)
        with FileSource(path) as source:
            shown = [frame.image for frame in source]
        expected = decode_photo(picture)
        assert len(shown) == 3 and shown[0].shape == expected.shape
        assert np.abs(shown[0].astype(int) - expected).mean() < 5, orientation


# --- cut short ------------------------------------------------------------------------------------------

KINDS = [
    (".mkv", "libx264"),
    (".webm", "libvpx"),
    (".ogv", "libvpx"),
    (".avi", "mpeg4"),
    (".flv", "flv1"),
    (".wmv", "wmv2"),
    (".ts", "libx264"),
]


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_a_copy_that_broke_off_is_damaged_and_the_whole_one_is_not(tmp_path: Path, suffix: str, codec: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    whole.write_bytes(files.video(suffix, codec, size=(320, 240), frames=400, rate="25"))
    with FileSource(whole) as source:
        assert len(list(source)) == 400
        assert source.damaged == 0
    content = whole.read_bytes()
    for share in (0.5, 0.9):
        part = tmp_path / f"part{suffix}"
        part.write_bytes(content[: int(len(content) * share) | 1])  # no transport stream has an odd number of bytes
        with FileSource(part) as source:
            assert 0 < len(list(source)) <= 400
            assert source.damaged > 0, share


def test_the_last_stretch_of_a_file_cut_short_counts_what_is_missing(tmp_path: Path) -> None:
    """A long video is read in stretches; only the one that comes to the end of the file can know."""
    images = [smooth(320, 240, seed) for seed in range(60)]
    path = make_clip(tmp_path / "cut.mp4", images, options={"movflags": "faststart", "g": "10"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with FileSource(path) as source:
        times = [frame.time for frame in source]
        missing = source.damaged
    assert missing > 5
    for stretch, expected in (((None, times[10]), 0), ((times[5], times[10]), 0), ((times[10], None), missing)):
        with FileSource(path, *stretch) as source:
            assert len(list(source)) > 0
            assert source.damaged == pytest.approx(expected, abs=4), stretch  # decoding order is not that of showing


@pytest.mark.data
def test_label_says_that_a_real_clip_is_cut_short(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("needs the program ffmpeg")
    monkeypatch.setenv("FACECAM_HOME", str(tmp_path / "home"))
    whole, part = tmp_path / "whole.mkv", tmp_path / "part.mkv"
    command = ["ffmpeg", "-v", "error", "-i", str(data / "clip" / "hamilton.mp4"), "-t", "2", "-c", "copy"]
    subprocess.run([*command, str(whole)], check=True)
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert invoke(["label", str(whole), str(part), "-o", str(tmp_path / "out"), "--no-video"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "cut short" in line]
    assert len(told) == 1 and "part.mkv" in told[0] and "labelled as far as it goes" in told[0]
    assert '"damaged":1' in (tmp_path / "out" / "part.sightings.jsonl").read_text().splitlines()[-1]
    assert '"x":1' in (tmp_path / "out" / "report.html").read_text()
