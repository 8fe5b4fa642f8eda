from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.errors import MediaError, SourceError
from facecam.values import Frame, Image
from facecam.video import camera, container, grabber, upright
from facecam.video.address import host_only
from facecam.video.base import FrameSource
from facecam.video.sources import (
    CameraSource,
    FileSource,
    PacedSource,
    SyntheticSource,
    hide_credentials,
    open_source,
)
from tests.fakes import (
    FakeCapture,
    closed_port,
    corners,
    make_clip,
    mjpeg_server,
    number_of,
    numbered,
    quarters,
    smooth,
)

IMAGES = [numbered(index) for index in range(12)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", IMAGES)


def _synthetic(clip: Path) -> FrameSource:
    return SyntheticSource(IMAGES, fps=25)


def _camera(clip: Path) -> FrameSource:
    return CameraSource(0, capture=FakeCapture(period=0.001))


# --- one suite for every source -----------------------------------------------------------------------


@pytest.fixture(params=[FileSource, _synthetic, lambda p: PacedSource(FileSource(p)), _camera])
def any_source(request: pytest.FixtureRequest, clip: Path) -> FrameSource:
    return request.param(clip)


def test_every_source_gives_upright_bgr_frames_in_order(any_source: FrameSource) -> None:
    with any_source as source:
        frames = [frame for _, frame in zip(range(5), source)]
    assert len(frames) == 5
    for frame in frames:
        assert (frame.width, frame.height) == (160, 120) == (source.info.width, source.info.height)
        assert frame.image.shape == (120, 160, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert frame.image.flags.writeable
        assert frame.luma.ndim == 2
        assert frame.luma.dtype == np.uint8
        assert frame.luma.shape[1] <= 96
    indexes, times = [f.index for f in frames], [f.time for f in frames]
    assert indexes == sorted(set(indexes))
    assert times == sorted(set(times))


def test_every_source_ends_after_close_and_closes_twice(any_source: FrameSource) -> None:
    assert any_source.read() is not None
    any_source.close()
    any_source.close()
    assert any_source.read() is None


# --- files --------------------------------------------------------------------------------------------


def test_a_file_gives_every_frame_at_the_containers_times(tmp_path: Path) -> None:
    times = [7, 8, 10, 20, 21, 50, 51, 52, 60, 61, 62, 200]
    path = make_clip(tmp_path / "vfr.mp4", IMAGES, times=times, base=Fraction(1, 1000))
    with FileSource(path) as source:
        frames = list(source)
    assert [f.time for f in frames] == pytest.approx([t / 1000 for t in times], abs=1e-9)
    assert [number_of(f.image) for f in frames] == list(range(12))
    assert [f.index for f in frames] == list(range(12))
    assert source.info.start_time == pytest.approx(0.007)
    assert source.info.fps is None  # not constant
    assert source.info.frames == 12
    assert source.damaged == 0


def test_a_steady_file_says_its_rate_and_duration(clip: Path) -> None:
    with FileSource(clip) as source:
        assert source.info.fps == pytest.approx(25)
        assert source.info.duration == pytest.approx(0.48)
        assert source.info.name == str(clip)
        assert not source.info.live


def test_frames_without_times_follow_one_another(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "raw.h264", IMAGES)
    with FileSource(path) as source:
        times = [frame.time for frame in source]
    assert len(times) == 12
    assert times[0] == 0.0
    assert np.diff(times) == pytest.approx([1 / 25] * 11, rel=0.05)


# Stored corners are red green / blue white: "rgbw".
@pytest.mark.parametrize(
    ("rotation", "hflip", "shown", "size"),
    [
        (0, False, "rgbw", (160, 120)),
        (90, False, "gwrb", (120, 160)),  # counter-clockwise: the right side comes to the top
        (180, False, "wbgr", (160, 120)),
        (-90, False, "brwg", (120, 160)),
        (0, True, "grwb", (160, 120)),
        (180, True, "bwrg", (160, 120)),
    ],
)
def test_rotation_of_the_container_is_applied(
    tmp_path: Path, rotation: int, hflip: bool, shown: str, size: tuple[int, int]
) -> None:
    path = make_clip(tmp_path / "turned.mp4", [quarters()] * 3, rotation=rotation, hflip=hflip)
    with FileSource(path) as source:
        frame = source.read()
        assert frame is not None
        assert (source.info.width, source.info.height) == (frame.width, frame.height) == size
        assert frame.image.shape == (size[1], size[0], 3)
        assert frame.image.flags.c_contiguous
        assert corners(frame.image) == shown


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "wide.mp4", [quarters()] * 2, aspect=Fraction(2, 1))
    with FileSource(path) as source:
        frame = source.read()
    assert frame is not None
    assert (frame.width, frame.height) == (320, 120)
    assert frame.image.shape == (120, 320, 3)
    assert corners(frame.image) == "rgbw"


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_looks_as_the_ordinary_picture(transfer: int, tmp_path: Path) -> None:
    plain = smooth(160, 120).astype(np.float64) * 0.5 + 60  # below paper's white, as faces are
    light = (plain[..., ::-1] / 255) ** 2.4  # red, green, blue
    wide = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # ITU-R BT.2087
    shown = 203 * light @ wide.T
    if transfer == 16:  # ITU-R BT.2100: PQ
        power = (shown / 10_000) ** 0.1593017578125
        coded = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:  # HLG
        scene = (shown / 1000) ** (1 / 1.2)
        coded = np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
        )
    stored = np.rint(coded[..., ::-1] * 255).astype(np.uint8)
    path = make_clip(tmp_path / "hdr.mkv", [stored], codec="ffv1", pixels="bgr0", colours=(0, 9, transfer))
    with FileSource(path) as source:
        frame = source.read()
    assert frame is not None and frame.planar() is None
    error = np.abs(frame.image - plain)
    assert error.mean() < 3 and error.max() < 12
    assert np.abs(stored - plain).mean() > 10  # what it is without


def test_a_change_of_size_in_the_middle_gives_frames_of_their_own_size(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "a.ts", [quarters(160, 120)] * 5)
    large = make_clip(tmp_path / "b.ts", [quarters(320, 240)] * 5)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    with FileSource(joined) as source:
        frames = list(source)
    sizes = [(f.width, f.height) for f in frames]
    assert sizes == [(160, 120)] * 5 + [(320, 240)] * 5
    for frame in frames:
        assert frame.image.shape == (frame.height, frame.width, 3)
        assert corners(frame.image) == "rgbw"


def test_a_broadcast_that_switches_to_a_wide_picture_is_shown_wide(tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / f"{a}.ts", [quarters()] * 5, aspect=Fraction(a, 15)) for a in (16, 20)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with FileSource(joined) as source:
        frames = list(source)
    assert [(f.width, f.height) for f in frames] == [(171, 120)] * 5 + [(213, 120)] * 5
    for frame in frames:
        assert frame.image.shape == (frame.height, frame.width, 3)


def test_images_are_made_only_when_asked_and_from_any_thread(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = upright.Upright.image

    def counted(self: upright.Upright) -> Image:
        made.append(threading.get_ident())
        return original(self)

    monkeypatch.setattr(upright.Upright, "image", counted)
    with FileSource(clip) as source:
        frames = list(source)
        assert all(frame.luma.shape[0] for frame in frames)  # from the Y plane, no conversion
    assert made == []
    numbers: dict[int, list[int]] = {}

    def convert(offset: int) -> None:
        numbers[offset] = [number_of(frame.image) for frame in frames[offset::3]]

    threads = [threading.Thread(target=convert, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers == {offset: list(range(offset, 12, 3)) for offset in range(3)}
    assert len(made) == 12
    assert frames[0].image is frames[0].image  # made once
    assert len(made) == 12


def test_pictures_are_freed_as_soon_as_they_are_dropped(tmp_path: Path) -> None:
    """Not only when the garbage collector passes: a 720p picture is 1.4 MB."""
    path = make_clip(tmp_path / "turned.mp4", IMAGES * 5, rotation=90)
    gc.collect()
    gc.disable()
    try:
        with FileSource(path) as source:
            for frame in source:
                assert frame.image is not None
                assert frame.luma is not None
            held = sum(type(thing).__name__ == "VideoFrame" for thing in gc.get_objects())
    finally:
        gc.enable()
    assert held < 5


def test_the_luma_thumbnail_shows_the_picture(tmp_path: Path) -> None:
    images = [smooth(640, 360, seed) for seed in range(2)]
    with FileSource(make_clip(tmp_path / "soft.mp4", images)) as source:
        for frame, image in zip(source, images):
            step = -(-640 // 96)
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[step // 2 :: step, step // 2 :: step]
            assert frame.luma.shape == grey.shape
            # video levels: 16 to 235
            assert np.abs(16 + grey * (219 / 255) - frame.luma).mean() < 3


def test_a_picture_without_a_plane_of_brightness_takes_it_from_the_image(tmp_path: Path) -> None:
    make_clip(tmp_path / "rgb.mov", [quarters(200, 100)], codec="png", pixels="rgb24")
    with FileSource(tmp_path / "rgb.mov") as source:
        frame = source.read()
    assert frame is not None
    assert frame.luma.shape == (33, 67)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"Dear diary, today I was named a video.\n" * 20, "video"),
        ("zeros.mp4", bytes(4096), "video"),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n", "video"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        FileSource(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_of_an_unknown_kind_are_refused_in_one_line(clip: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.mp4"
    odd.write_bytes(clip.read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(MediaError, match="unknown kind"):
        FileSource(odd)


def test_colours_that_cannot_be_converted_are_refused_in_one_line(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "ycgco.mp4", IMAGES[:2], colours=(8, 1, 1))
    with FileSource(path) as source:
        frame = source.read()
        assert frame is not None
        with pytest.raises(MediaError, match=r"ycgco\.mp4: the video's colours are of an unusual kind .*matrix 8"):
            _ = frame.image


def test_missing_folder_and_sound_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        FileSource(tmp_path / "missing.mp4")
    with pytest.raises(MediaError, match="not a regular file"):
        FileSource(tmp_path)
    import av

    with av.open(str(tmp_path / "song.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"holds sound only.*no video stream"):
        FileSource(tmp_path / "song.mp4")


def test_a_file_name_is_never_read_as_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4", IMAGES)
    Path("concat:clip.mp4").write_bytes(Path("clip.mp4").read_bytes())
    with FileSource("concat:clip.mp4") as source:
        assert len(list(source)) == 12
    with pytest.raises(MediaError, match="no such file"):
        FileSource("pipe:0")


def test_an_mp4_cut_before_its_index_says_so(clip: Path) -> None:
    content = clip.read_bytes()
    clip.write_bytes(content[: content.rindex(b"moov") - 20])
    with pytest.raises(MediaError, match=r"cut short.*moov"):
        FileSource(clip)


def test_an_mp4_cut_in_its_pictures_gives_those_there_are(tmp_path: Path) -> None:
    images = [smooth(320, 240, seed) for seed in range(60)]
    path = make_clip(tmp_path / "cut.mp4", images, options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with FileSource(path) as source:
        frames = list(source)
    assert 20 < len(frames) < 60
    assert source.damaged == 60 - len(frames)
    for frame, image in zip(frames[:-3], images):
        assert np.abs(frame.image.astype(int) - image).mean() < 6


def test_damage_in_the_middle_is_counted_and_survived(tmp_path: Path) -> None:
    images = [smooth(320, 240, seed) for seed in range(60)]
    path = make_clip(tmp_path / "hurt.ts", images, codec="mpeg2video")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(1).integers(0, 256, 2000, np.uint8).tobytes()
    path.write_bytes(bytes(content))
    with FileSource(path) as source:
        frames = list(source)
    assert source.damaged > 0
    assert len(frames) > 50


def test_an_endless_error_of_the_container_ends(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    class Broken:
        def __init__(self, inner: object) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def demux(self, stream: object) -> object:
            raise av.error.InvalidDataError(1, "broken")

    original = container._open
    monkeypatch.setattr(container, "_open", lambda path: Broken(original(path)))
    with pytest.raises(MediaError, match="no frame"):
        FileSource(clip)


def test_nothing_is_printed_about_a_bad_file(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clip.write_bytes(clip.read_bytes()[:-200])
    with pytest.raises(MediaError):
        FileSource(clip)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.skipif(not hasattr(__import__("os"), "setuid"), reason="needs setuid")
def test_a_file_without_permission_is_refused(clip: Path) -> None:
    import os

    if os.geteuid() != 0:
        clip.chmod(0)
        with pytest.raises(MediaError, match="cannot be read"):
            FileSource(clip)
        return
    clip.chmod(0o600)
    for folder in (clip.parent, *clip.parent.parents):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o001)
        if folder == Path("/tmp"):
            break
    code = (
        "import os, sys\n"
        "from facecam.errors import MediaError\n"
        "from facecam.video.sources import FileSource\n"
        "import av, cv2\n"
        "os.setuid(65534)\n"
        "try: FileSource(sys.argv[1])\n"
        "except MediaError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(clip)], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert "Permission denied" in done.stdout, done.stderr


@pytest.mark.data
def test_the_real_clip_frame_by_frame(data: Path) -> None:
    import av

    path = data / "clip" / "hamilton.mp4"
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        stamps = sorted(p.pts * stream.time_base for p in opened.demux(stream) if p.pts is not None)
    with FileSource(path) as source:
        info = source.info
        frames = list(source)
    assert [f.time for f in frames] == [float(t) for t in stamps]
    assert len(frames) == 275 == info.frames
    assert info.start_time == frames[0].time == pytest.approx(10214 / 11988)
    assert info.start_time > 0.8
    assert (info.width, info.height) == (640, 360)
    assert info.fps == pytest.approx(29.97)
    assert info.duration == pytest.approx(275 / 29.97, abs=0.01)
    assert source.damaged == 0
    assert frames[100].image.std() > 10


@pytest.mark.data
def test_the_real_clip_cut_in_half(data: Path, tmp_path: Path) -> None:
    whole = (data / "clip" / "hamilton.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="cut short"):
        FileSource(tmp_path / "half.mp4")
    if shutil.which("ffmpeg"):
        fast = tmp_path / "fast.mp4"
        command = ["ffmpeg", "-v", "error", "-i", str(data / "clip" / "hamilton.mp4"), "-c", "copy"]
        subprocess.run([*command, "-movflags", "faststart", str(fast)], check=True)
        fast.write_bytes(fast.read_bytes()[:300_000])
        with FileSource(fast) as source:
            count = len(list(source))
        assert 100 < count < 200
        assert source.damaged == 275 - count


def _all_of(path: Path, **options: bool) -> list[tuple[int, float, bytes]]:
    with FileSource(path, **options) as source:
        return [(frame.index, frame.time, frame.image.tobytes()) for frame in source]


@pytest.mark.parametrize("options", [{"lean": True}, {"steady": True}], ids=str)
def test_the_number_of_decoding_threads_changes_no_bit(options: dict[str, bool], tmp_path: Path) -> None:
    path = make_clip(tmp_path / "long.mp4", [smooth(160, 120, index) for index in range(40)])
    assert _all_of(path, **options) == _all_of(path)


@pytest.mark.data
@pytest.mark.parametrize("options", [{"lean": True}, {"steady": True}], ids=str)
def test_the_real_clip_is_the_same_with_fewer_decoding_threads(options: dict[str, bool], data: Path) -> None:
    path, count = data / "clip" / "hamilton.mp4", 0
    with FileSource(path) as plain, FileSource(path, **options) as other:
        for one, two in zip(plain, other, strict=True):
            assert (one.index, one.time) == (two.index, two.time)
            assert np.array_equal(one.image, two.image), f"frame {one.index}"
            count += 1
    assert count == 275


# --- synthetic and paced ------------------------------------------------------------------------------


def test_a_synthetic_source_repeats_and_counts() -> None:
    with SyntheticSource(IMAGES[:3], fps=10, count=7, start=2.0) as source:
        frames = list(source)
    assert [number_of(f.image) for f in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert [f.time for f in frames] == pytest.approx([2.0 + i / 10 for i in range(7)])
    assert source.info.duration == pytest.approx(0.7)
    endless = SyntheticSource(numbered)
    assert [endless.read().index for _ in range(40)][-1] == 39  # type: ignore[union-attr]
    assert endless.info.frames is None


def test_a_paced_source_plays_in_real_time() -> None:
    inner = SyntheticSource(IMAGES, fps=50, start=5.0)
    with PacedSource(inner) as source:
        assert source.info.live
        assert source.info.start_time == 5.0
        start = time.monotonic()
        shown = [(time.monotonic() - start, frame.time) for frame in source]
    assert shown[-1][1] == pytest.approx(5.0 + 11 / 50)  # the last frame always comes
    for wall, at in shown:
        assert wall >= at - 5.0 - 0.002  # never early
    assert 0.2 <= shown[-1][0] < 3.0


def test_a_paced_source_drops_what_is_late() -> None:
    with PacedSource(SyntheticSource(numbered, fps=100, count=60)) as source:
        indexes = []
        for frame in source:
            indexes.append(frame.index)
            time.sleep(0.05)
    assert len(indexes) < 30
    assert len(indexes) + source.dropped == 60
    assert indexes[-1] == 59


class _Clock(SyntheticSource):
    """Frames with given times."""

    def __init__(self, times: list[float]) -> None:
        super().__init__([numbered(0)], count=len(times))
        self._times = times

    def read(self) -> Frame | None:
        frame = super().read()
        return None if frame is None else Frame(frame.index, self._times[frame.index], frame.image)


def test_a_paced_source_does_not_sit_through_a_jump_of_the_clock() -> None:
    with PacedSource(_Clock([0.0, 0.02, 90_000.0, 90_000.02, 3.0, 3.02])) as source:
        start = time.monotonic()
        assert [frame.index for frame in source] == list(range(6))
        assert time.monotonic() - start < 2


def test_closing_a_paced_source_ends_its_wait() -> None:
    source = PacedSource(_Clock([0.0, 9.0, 9.1]))
    source.read()
    threading.Timer(0.1, source.close).start()
    start = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - start < 2


# --- cameras ------------------------------------------------------------------------------------------


def test_a_camera_keeps_only_the_newest_frame() -> None:
    fake = FakeCapture(period=0.002)
    with CameraSource(0, capture=fake) as source:
        first = source.read()
        time.sleep(0.2)
        later = source.read()
        assert first is not None
        assert later is not None
        assert later.index > first.index + 3
        assert number_of(later.image) == later.index % 256
        assert later.time > first.time >= 0.0
        assert source.info.live
        assert source.info.fps == 30
        assert source.info.name == "camera 0"
    assert fake.released.wait(2)
    assert len(fake.threads) == 1  # opened, read and released by one thread


def test_a_camera_is_asked_for_size_and_rate() -> None:
    fake = FakeCapture()
    with CameraSource(0, 1280, 720, 30, capture=fake):
        pass
    asked = dict(fake.asked)
    assert asked[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert asked[cv2.CAP_PROP_FRAME_HEIGHT] == 720
    assert asked[cv2.CAP_PROP_FPS] == 30


def test_a_camera_that_gives_grey_or_four_channels_gives_bgr() -> None:
    for make in (lambda i: numbered(i % 256)[:, :, 0], lambda i: np.dstack([numbered(i % 256)] * 2)[:, :, :4]):
        with CameraSource(0, capture=FakeCapture(make)) as source:
            frame = source.read()
        assert frame is not None
        assert frame.image.shape == (120, 160, 3)
        assert frame.image.flags.c_contiguous


def test_a_camera_that_does_not_open_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grabber, "cameras_present", lambda: [(2, "Front"), (3, "Rear")])
    with pytest.raises(SourceError, match=r"camera 0: cannot be opened; cameras here: 2 \(Front\), 3 \(Rear\)"):
        CameraSource(0, capture=FakeCapture(opens=False))
    monkeypatch.setattr(grabber, "cameras_present", lambda: [])
    with pytest.raises(SourceError, match="no camera is connected"):
        CameraSource(0, capture=FakeCapture(opens=False))


def test_a_camera_that_is_unplugged_gives_its_last_frame_then_an_error() -> None:
    fake = FakeCapture(count=5)
    with CameraSource(0, capture=fake) as source:
        last = -1
        with pytest.raises(SourceError, match="camera 0: has stopped"):
            while (frame := source.read()) is not None:
                last = frame.index
        assert last == 4
        with pytest.raises(SourceError):  # and goes on saying so
            source.read()
    assert fake.released.is_set()


def test_single_refused_reads_are_no_end() -> None:
    with CameraSource(0, capture=FakeCapture(_stuttering())) as source:
        assert [source.read() is not None for _ in range(5)] == [True] * 5


def _stuttering():  # type: ignore[no-untyped-def]
    calls = iter(range(10_000))
    return lambda index: None if next(calls) % 3 == 0 else numbered(index % 256)


@pytest.mark.parametrize("error", [cv2.error("select() failed"), OSError(19, "No such device")])
def test_an_error_of_the_driver_is_a_source_error(error: Exception) -> None:
    with (
        CameraSource(0, capture=FakeCapture(count=3, error=error)) as source,
        pytest.raises(SourceError, match="the driver failed"),
    ):
        while source.read():
            pass


def test_a_mistake_in_the_capture_stays_loud() -> None:
    with (
        CameraSource(0, capture=FakeCapture(count=3, error=KeyError("bug"))) as source,
        pytest.raises(KeyError),
    ):
        while source.read():
            pass


def test_a_camera_that_stalls_is_an_error_in_time() -> None:
    fake = FakeCapture(hang=3)
    with CameraSource(0, capture=fake) as source:
        start = time.monotonic()
        with pytest.raises(SourceError, match=r"gave no new picture for 0\.3 s"):
            while source.read(timeout=0.3):
                pass
        assert time.monotonic() - start < 2
        start = time.monotonic()
        source.close()
        assert time.monotonic() - start < 2.0  # a hung driver does not hold up the end
        fake.wake.set()
    assert fake.released.wait(2)


def test_a_camera_that_never_gives_a_picture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "OPEN_SECONDS", 0.2)
    fake = FakeCapture(hang=0)
    with pytest.raises(SourceError, match="no picture"):
        CameraSource(0, capture=fake)
    fake.wake.set()


def test_closing_wakes_a_reader() -> None:
    fake = FakeCapture(hang=1)
    source = CameraSource(0, capture=fake)
    source.read()
    threading.Timer(0.1, source.close).start()
    start = time.monotonic()
    assert source.read(timeout=10) is None
    assert time.monotonic() - start < 3
    fake.wake.set()


def test_an_mjpeg_stream_is_shown_and_its_end_is_an_error() -> None:
    with mjpeg_server(count=20) as url, CameraSource(url) as source:
        seen = 0
        with pytest.raises(SourceError, match="stopped"):
            while (frame := source.read()) is not None:
                assert frame.image.shape == (120, 160, 3)
                seen += 1
        assert seen >= 3


def test_an_mjpeg_stream_that_stalls_is_an_error_in_time() -> None:
    with mjpeg_server(count=15, then="stall") as url:
        with CameraSource(url) as source:
            with pytest.raises(SourceError, match="no new picture"):
                while source.read(timeout=0.5):
                    pass
            start = time.monotonic()
        assert time.monotonic() - start < 2.0


def test_a_host_that_refuses_is_an_error_without_its_password(capfd: pytest.CaptureFixture[str]) -> None:
    from facecam.video.cv import import_cv2

    import_cv2()
    with pytest.raises(SourceError) as caught:
        open_source(f"http://ada:s3cret@127.0.0.1:{closed_port()}/live?token=abc123")
    assert "cannot be opened" in str(caught.value)
    captured = capfd.readouterr()
    for text in (str(caught.value), captured.out, captured.err):
        assert "s3cret" not in text
        assert "abc123" not in text
    assert captured.err == ""


# --- names of sources ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam.local/stream1", "rtsp://cam.local/stream1"),
        ("rtsp://ada:pw@cam.local:554/stream1", "rtsp://cam.local:554/stream1"),
        ("rtsp://ada:p@ss@cam.local/s", "rtsp://cam.local/s"),
        ("rtsp://ada:pa/ss@cam.local/s", "rtsp://cam.local/s"),
        ("http://[::1]:8080/v?user=ada&password=pw", "http://[::1]:8080/v?user=***&password=***"),
        ("rtsp://cam/user=admin&password=pw&channel=1", "rtsp://cam/user=***&password=***&channel=***"),
        ("http://host/@ada/live", "http://host/@ada/live"),
        ("http://t0ken@host/live", "http://host/live"),
        ("https://t0ken@[::1]:80", "https://[::1]:80"),
        ("http://10.0.0.7:80/live@2", "http://10.0.0.7:80/live@2"),
        ("rtsp://ada:p@ss/word@cam.local:1/stream", "rtsp://cam.local:1/stream"),
        ("rtsp://ada:123/word@cam.local:1/stream", "rtsp://cam.local:1/stream"),
        ("http://ada:123/word@cam.local:1/stream", "http://cam.local:1/stream"),
        ("rtsp://ada:12#34@cam.local/s", "rtsp://cam.local/s"),
        ("rtsp://ada:p@1#34@cam.local/s", "rtsp://cam.local/s"),
        ("rtsp://ada:p?w@cam.local:554/s", "rtsp://cam.local:554/s"),
        ("http://proxy:1984/rtsp://ada:pw@cam.local/s", "http://cam.local/s"),
        ("http://127.0.0.1:1984/v?src=rtsp://ada:pw@cam.local/s&n=1", "http://127.0.0.1:1984/v?src=***&n=***"),
        ("http://host/v?token=a/b?c@d#e", "http://host/v?token=***"),
        ("rtsp://cam.local:554/user=ada&password=p@ss&channel=1", "rtsp://***"),  # who knows where the host begins
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("rtsp:/ada:a://b@cam.local/s", "cam.local/s"),
        ("/dev/v4l/by-id/usb-cam@2", "/dev/v4l/by-id/usb-cam@2"),
    ],
)
def test_credentials_are_hidden(url: str, shown: str) -> None:
    assert hide_credentials(url) == shown


@given(
    st.text(st.characters(codec="ascii", exclude_characters="@:/?#=&;[]", categories=["L", "N"]), min_size=8),
    st.sampled_from(["", ":554"]),
)
def test_no_password_survives(secret: str, port: str) -> None:
    shown = hide_credentials(f"rtsp://user:{secret}@camera.invalid{port}/live?key={secret}")
    assert secret not in shown.replace("camera.invalid", "")
    assert "camera.invalid" in shown


#: None of these is in the rest of the addresses below.
_PASSWORDS = st.text("ZQ7@/#?:=", min_size=1, max_size=12)


@given(st.sampled_from(["rtsp", "rtsps", "rtmp", "http", "https", "mqtt"]), _PASSWORDS, st.sampled_from(["", ":554"]))
def test_no_character_of_a_password_survives(scheme: str, secret: str, port: str) -> None:
    for more in ("", "/", "/live", f"/live?key={secret}", f"?key={secret}#{secret}", "/live@2"):
        shown = hide_credentials(f"{scheme}://user:{secret}@camera.invalid{port}{more}")
        assert not set(shown) & set("ZQ7") and "user" not in shown
        assert not set(host_only(shown)) & set("ZQ7")


@given(_PASSWORDS)
def test_no_character_of_a_value_survives(secret: str) -> None:
    for start in ("http://camera.invalid", "http://127.0.0.1:80", "rtsp://camera.invalid:554"):
        shown = hide_credentials(f"{start}/live?a=1&key={secret}&b=2")
        assert not set(shown.removeprefix(start)) & set("ZQ7")


@pytest.mark.parametrize("spec", ["rtsp:/ada:hunter2@cam/x", "RTSP:ada:hunter2@cam/x", "http:/u:hunter2@h"])
def test_an_address_with_a_slash_too_few_is_told_without_it(spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    assert "hunter2" not in str(caught.value) and "://" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_open_source_chooses(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(
        "facecam.video.sources.CameraSource", lambda *args, **more: opened.append(args[0]) or SyntheticSource(IMAGES)
    )
    open_source("0", width=640)
    open_source("rtsp://cam.local/1")
    assert opened == [0, "rtsp://cam.local/1"]
    for spec in (str(clip), f"file://{clip}"):
        with open_source(spec) as source:
            assert isinstance(source, FileSource)
    with open_source(str(clip), paced=True) as source:
        assert isinstance(source, PacedSource)
        assert source.info.live


@pytest.mark.parametrize("spec", ["nowhere.mp4", "gopher://host/1", "file:///nowhere.mp4", ""])
def test_open_source_refuses_in_one_line(spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)
