from __future__ import annotations

import errno
import io
import json
import os
import stat
import subprocess
import sys
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facecam.errors import OutputError
from facecam.values import SourceInfo
from facecam.video import atomic, container
from facecam.video.atomic import atomic_bytes, atomic_text
from facecam.video.audio import AudioTrack
from facecam.video.events import EventSink
from facecam.video.keyframes import borders
from facecam.video.sinks import VideoSink
from facecam.video.sources import FileSource
from tests.fakes import corners, make_clip, number_of, numbered, quarters, small_disk, smooth

INFO = SourceInfo("test", 160, 120, fps=25.0)
IMAGES = [numbered(index) for index in range(20)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "files"
    path.mkdir()
    return path


def _left(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def _stamps(path: Path, kind: str) -> tuple[list[Fraction], list[bytes]]:
    """Presentation times in seconds and the bytes of every packet of the first stream of a kind."""
    import av

    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        packets = [p for p in container.demux(stream) if p.size]
        return sorted(p.pts * p.time_base for p in packets), [bytes(p) for p in packets]


def _relabel(source: Path, target: Path, **options: Any) -> VideoSink:
    with FileSource(source) as frames, VideoSink(target, frames.info, source, **options) as sink:
        for frame in frames:
            sink.write(frame.image, frame.time)
    return sink


# --- pictures and times -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_pictures_come_back_in_order_at_their_times(folder: Path, suffix: str) -> None:
    target = folder / f"out{suffix}"
    times = [0.5 + index * 0.04 for index in range(20)]
    with VideoSink(target, INFO) as sink:
        for image, time in zip(IMAGES, times):
            sink.write(image, time)
        assert not target.exists()  # not before it is whole
    assert sink.frames == 20
    with FileSource(target) as source:
        frames = list(source)
    assert [number_of(f.image) for f in frames] == list(range(20))
    assert [f.time for f in frames] == pytest.approx(times, abs=0.0006)  # mkv counts milliseconds
    assert _left(folder) == [target.name]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("times", "base"),
    [
        ([10214 + 400 * i for i in range(20)], Fraction(1, 11988)),
        ([0, 1, 2, 3, 30, 31, 32, 33, 34, 35, 100, 101, 102, 103, 104, 105, 106, 107, 108, 500], Fraction(1, 1000)),
        ([3003 * i + 1 for i in range(20)], Fraction(1, 90_000)),
        (list(range(20)), Fraction(1, 24)),
    ],
)
def test_times_of_a_file_are_kept_exactly(folder: Path, times: list[int], base: Fraction) -> None:
    unit = {"movie_timescale": str(base.denominator)}
    source = make_clip(folder / "in.mp4", IMAGES, times=times, base=base, options=unit)
    before, _ = _stamps(source, "video")
    assert before == [t * base for t in times]
    _relabel(source, folder / "out.mp4")
    after, _ = _stamps(folder / "out.mp4", "video")
    assert after == before


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("first", ["a cover", "another video"])
def test_of_several_streams_the_one_is_copied_that_players_show(folder: Path, suffix: str, first: str) -> None:
    import av

    source = folder / f"in{suffix}"
    times, base = [10214 + 400 * i for i in range(20)], Fraction(1, 11988)
    kinds = av.stream.Disposition
    with av.open(str(source), "w", options={"movie_timescale": "11988"} if suffix == ".mp4" else {}) as output:
        aside = output.add_stream("mjpeg", rate=25)
        aside.width, aside.height, aside.pix_fmt = 64, 64, "yuvj420p"
        aside.disposition = kinds.attached_pic if first == "a cover" else kinds(0)
        shown = output.add_stream("libx264", rate=25)
        shown.width, shown.height, shown.pix_fmt, shown.disposition = 160, 120, "yuv420p", kinds.default
        shown.time_base = shown.codec_context.time_base = base
        output.mux(aside.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="bgr24")))
        for image, ticks in zip(IMAGES, times):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = ticks, base
            output.mux(shown.encode(frame))
        output.mux(shown.encode(None))
    with FileSource(source) as frames:
        seen = [(frame.time, number_of(frame.image)) for frame in frames]
    assert [number for _, number in seen] == list(range(20))
    _relabel(source, folder / "out.mp4")
    after, _ = _stamps(folder / "out.mp4", "video")
    assert [float(time) for time in after] == [time for time, _ in seen]
    if suffix == ".mp4":
        assert after == [t * base for t in times]
    assert borders(source, 1000.0) == []


def test_times_that_do_not_grow_are_moved_on_not_refused(folder: Path) -> None:
    times = [0.0, 0.04, 0.04, 0.02, 0.08]
    with VideoSink(folder / "out.mp4", INFO) as sink:
        for image, time in zip(IMAGES, times):
            sink.write(image, time)
    with FileSource(folder / "out.mp4") as source:
        frames = list(source)
    assert [number_of(f.image) for f in frames] == list(range(5))
    assert [f.time for f in frames] == sorted({f.time for f in frames})


def test_colours_survive(folder: Path) -> None:
    images = [smooth(320, 240, seed) for seed in range(3)]
    with VideoSink(folder / "out.mp4", SourceInfo("test", 320, 240, fps=25)) as sink:
        for index, image in enumerate(images):
            kept = image.copy()
            sink.write(image, index / 25)
            assert np.array_equal(image, kept)
            image[:] = 0  # the caller may reuse its buffer
    with FileSource(folder / "out.mp4") as source:
        for seed, frame in enumerate(source):
            assert np.abs(frame.image.astype(int) - smooth(320, 240, seed)).mean() < 5


@pytest.mark.parametrize(("width", "height"), [(161, 121), (160, 121), (161, 120), (1, 1), (2, 2), (3, 500)])
def test_odd_sizes_are_padded(folder: Path, width: int, height: int) -> None:
    image = smooth(width, height) if min(width, height) > 9 else np.full((height, width, 3), 180, np.uint8)
    with VideoSink(folder / "out.mp4", SourceInfo("test", width, height)) as sink:
        for index in range(3):
            sink.write(image, index / 25)
    with FileSource(folder / "out.mp4") as source:
        frames = list(source)
    assert len(frames) == 3
    shape = (height + height % 2, width + width % 2, 3)
    assert frames[0].image.shape == shape
    assert np.abs(frames[0].image[:height, :width].astype(int) - image).mean() < 12


def test_a_picture_of_another_size_is_fitted_in(folder: Path) -> None:
    with VideoSink(folder / "out.mp4", INFO) as sink:
        sink.write(quarters(160, 120), 0.0)
        sink.write(quarters(640, 480), 0.04)
        sink.write(quarters(120, 120), 0.08)
    with FileSource(folder / "out.mp4") as source:
        images = [frame.image for frame in source]
    assert [image.shape for image in images] == [(120, 160, 3)] * 3
    assert corners(images[0]) == corners(images[1]) == "rgbw"
    assert images[2][:, :15].mean() < 10  # black at the sides
    assert corners(images[2][:, 20:140]) == "rgbw"


def test_the_video_does_not_depend_on_the_processors_vector_units(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    videos = []
    for wide in (False, True):
        monkeypatch.setattr(cv2, "checkHardwareSupport", lambda _, wide=wide: wide)
        target = folder / f"{wide}.mp4"
        with VideoSink(target, INFO) as sink:
            for number in range(8):
                sink.write(np.roll(smooth(160, 120), 5 * number, axis=1), number * 0.04)
        with FileSource(target) as source:
            videos.append(np.stack([frame.image for frame in source]))
    assert np.array_equal(*videos)


def test_a_view_that_is_not_contiguous_is_written(folder: Path) -> None:
    with VideoSink(folder / "out.mp4", INFO) as sink:
        sink.write(quarters()[:, ::-1], 0.0)
    with FileSource(folder / "out.mp4") as source:
        assert corners(next(iter(source)).image) == "grwb"


# --- sound --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "libopus", "flac"])
def test_sound_is_copied_bit_by_bit_at_its_times(folder: Path, codec: str) -> None:
    source = make_clip(folder / "in.mp4", IMAGES, times=[10 + i for i in range(20)], sound=codec)
    sink = _relabel(source, folder / "out.mp4")
    assert sink.warnings == []
    (before, content), (after, copied) = (_stamps(p, "audio") for p in (source, folder / "out.mp4"))
    assert len(before) > 5
    assert after == before
    assert copied == content


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "mp2"])
def test_sound_that_does_not_fit_is_encoded_anew_and_told(folder: Path, codec: str) -> None:
    import av

    source = make_clip(folder / "in.mkv", IMAGES, sound=codec)
    sink = _relabel(source, folder / "out.mp4")
    assert len(sink.warnings) == 1
    assert "encoded anew as AAC" in sink.warnings[0]
    with av.open(str(folder / "out.mp4")) as out:
        assert out.streams.audio[0].codec_context.name.startswith("aac")
        frames = list(out.decode(audio=0))
    wave = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert abs(frames[0].time or 0.0) < 0.05
    assert abs(len(wave) / 48000 - 0.8) < 0.1
    spectrum = np.abs(np.fft.rfft(wave[4800:28800]))
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 4  # the tone is still the tone
    # a format that holds it keeps it as it is
    assert _relabel(source, folder / "out.mkv").warnings == []


def test_all_sound_streams_go_along(folder: Path) -> None:
    import av

    one = make_clip(folder / "one.mp4", IMAGES, sound="aac")
    with av.open(str(one)) as inner, av.open(str(folder / "two.mp4"), "w") as outer:
        picture = outer.add_stream_from_template(inner.streams.video[0])
        sounds = [outer.add_stream_from_template(inner.streams.audio[0]) for _ in range(2)]
        for packet in inner.demux():
            for stream in [picture] if packet.stream.type == "video" else sounds:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                if packet.size:
                    outer.mux(copy)
    sink = _relabel(folder / "two.mp4", folder / "out.mp4")
    with av.open(str(folder / "out.mp4")) as out:
        assert len(out.streams.audio) == 2
    assert sink.warnings == []


def test_a_silent_or_missing_sound_file_gives_a_silent_video(folder: Path) -> None:
    import av

    _relabel(make_clip(folder / "in.mp4", IMAGES), folder / "silent.mp4")
    with VideoSink(folder / "out.mp4", INFO, folder / "none.mp4") as sink:
        sink.write(IMAGES[0], 0.0)
    assert "sound cannot be read" in sink.warnings[0]
    for name in ("silent.mp4", "out.mp4"):
        with av.open(str(folder / name)) as out:
            assert not out.streams.audio


def test_sound_longer_than_the_pictures_is_kept(folder: Path) -> None:
    source = make_clip(folder / "in.mp4", IMAGES, sound="aac")
    with FileSource(source) as frames, VideoSink(folder / "out.mp4", frames.info, source) as sink:
        frame = frames.read()
        assert frame is not None
        sink.write(frame.image, frame.time)
    assert len(_stamps(folder / "out.mp4", "audio")[0]) == len(_stamps(source, "audio")[0])


def _join(target: Path, *parts: Path) -> Path:
    """Transport streams are joined as `cat` does; each part's clock begins anew."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("codec", ["mp2", "aac"])
def test_joined_recordings_keep_their_sound_where_it_changes(folder: Path, codec: str, suffix: str) -> None:
    kinds = ("stereo", "mono", "stereo")
    parts = [make_clip(folder / f"{i}.ts", IMAGES * 2, sound=codec, layout=kind) for i, kind in enumerate(kinds)]
    sink = _relabel(_join(folder / "in.ts", *parts), folder / f"out{suffix}")
    pictures, sound = (_stamps(folder / f"out{suffix}", kind)[0] for kind in ("video", "audio"))
    assert len(pictures) == 120
    steps = [float(after - before) for before, after in pairwise(pictures)]
    assert steps == pytest.approx([0.04] * 119, abs=0.0011)  # mkv counts milliseconds
    assert abs(float(sound[-1] - pictures[-1])) < 0.2
    assert max(float(after - before) for before, after in pairwise(sound)) < 0.12
    assert not [line for line in sink.warnings if "encoded anew" not in line]


def test_damaged_sound_never_costs_the_pictures(folder: Path) -> None:
    """Bytes of the sound's packets of a transport stream are changed by chance."""
    packet = 188
    whole = {codec: make_clip(folder / f"{codec}.ts", IMAGES * 2, sound=codec) for codec in ("mp2", "aac")}
    told = 0
    for path in whole.values():
        for seed in range(12):
            draw, data = np.random.default_rng(seed), bytearray(path.read_bytes())
            sound = [at for at in range(0, len(data), packet) if data[at + 1] & 0x1F == 1 and data[at + 2] == 1]
            for at in draw.choice(sound, 6, replace=False):
                data[at + int(draw.integers(4, packet))] = int(draw.integers(256))
            (folder / "bad.ts").write_bytes(data)
            sink = _relabel(folder / "bad.ts", folder / "out.mp4", overwrite=True)
            assert sink.frames == len(_stamps(folder / "out.mp4", "video")[0]) == 40
            told += any("damaged" in line for line in sink.warnings)
    assert told  # some of them are what a muxer or an encoder refuses


def test_a_stream_that_appears_later_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV 18 looks at the end for streams that came later, in memory that says by chance whether it finds any."""

    class Later:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *exception: object) -> None:
            self._container.close()

        def demux(self, *streams: Any) -> Any:
            yield from self._container.demux(*streams)
            raise IndexError("list index out of range")

    import av

    plain = av.open
    source = make_clip(folder / "in.ts", IMAGES, sound="mp2")
    with FileSource(source) as frames:
        info = frames.info
    opened = [Later(plain(str(source))) for _ in range(2)]
    monkeypatch.setattr(av, "open", lambda *_, **__: opened.pop())
    assert borders(source, 0.4) == []  # one key frame, at the beginning
    track = AudioTrack(source, plain(str(folder / "out.mkv"), "w"))
    track.pump()
    assert not opened
    assert not [line for line in track.warnings if "breaks off" in line]
    monkeypatch.undo()
    monkeypatch.setattr(container, "_open", lambda path: Later(plain(str(path))))
    with FileSource(source) as frames:
        assert len(list(frames)) == 20
        assert frames.info == info


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("end", [1.2, None])
def test_a_stretch_has_its_sound_and_in_step(folder: Path, codec: str, end: float | None) -> None:
    """A click at 1.0 s of the source is heard at 0.4 s of a copy that begins at 0.6 s."""
    import av

    source = folder / "in.mkv"
    images = [numbered(index) for index in range(50)]
    make_clip(folder / "silent.mkv", images)
    with av.open(str(folder / "silent.mkv")) as inner, av.open(str(source), "w") as outer:
        picture = outer.add_stream_from_template(inner.streams.video[0])
        sound: Any = outer.add_stream(codec, rate=48000, layout="mono")
        for packet in inner.demux(video=0):
            if packet.size:
                packet.stream = picture
                outer.mux(packet)
        wave = np.zeros((1, 96256), np.int16)
        wave[0, 48000:48480] = 20000 * np.sign(np.sin(np.arange(480)))
        for start in range(0, 96256, 1024):
            piece = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 48000, start, Fraction(1, 48000)
            outer.mux(sound.encode(piece))
        outer.mux(sound.encode(None))
    with FileSource(source, 0.6, end) as frames:
        target = folder / "out.mp4"
        with VideoSink(target, frames.info, source, stretch=(0.6, end)) as sink:
            for frame in frames:
                sink.write(frame.image, frame.time - 0.6)
    with av.open(str(target)) as out:
        heard = list(out.decode(audio=0))
    assert heard[0].time == pytest.approx(0.0, abs=0.045)
    waves = [(f.time, np.abs(f.to_ndarray()[0])) for f in heard]
    loud = next(at + wave.argmax() / 48000 for at, wave in waves if wave.max() > 0.2)
    assert loud == pytest.approx(0.4, abs=0.03)
    last = heard[-1].time + heard[-1].samples / 48000
    assert last == pytest.approx(0.6 if end else 1.4, abs=0.06)


@pytest.mark.data
def test_the_real_clip_keeps_times_and_sound(data: Path, folder: Path) -> None:
    source = data / "clip" / "hamilton.mp4"
    sink = _relabel(source, folder / "out.mp4")
    assert sink.warnings == []
    for kind in ("video", "audio"):
        (before, content), (after, copied) = (_stamps(p, kind) for p in (source, folder / "out.mp4"))
        assert after == before
        assert len(before) == (275 if kind == "video" else 431)
        assert (copied == content) == (kind == "audio")
    with FileSource(source) as one, FileSource(folder / "out.mp4") as other:
        assert other.info.duration == pytest.approx(one.info.duration)
        for a, b in zip(one, other):
            assert a.time == b.time
            if a.index % 50 == 0:
                assert np.abs(a.image.astype(int) - b.image).mean() < 4


# --- all or nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("gap", [3600, 7 * 3600, 3 * 86400])
@pytest.mark.parametrize("live", [True, False])
def test_a_video_keeps_its_times_over_a_long_gap(folder: Path, suffix: str, gap: int, live: bool) -> None:
    """An MP4 holds no step of more than 2^31 ticks; the picture from before the gap is shown again in it."""
    import av

    times = [k / 25 + (gap if k >= 10 else 0) for k in range(20)]
    with VideoSink(folder / f"night{suffix}", INFO, live=live) as sink:
        for k, time in enumerate(times):
            sink.write(IMAGES[k], time)
    assert sink.frames == 20
    with av.open(str(folder / f"night{suffix}")) as video:
        seen = [(float(f.time), number_of(f.to_ndarray(format="bgr24"))) for f in video.decode(video=0)]
        assert video.duration == pytest.approx((gap + 20 / 25) * 1e6, abs=1e5)
    filled = [(at, number) for at, number in seen if times[9] < at < times[10] - 1e-3]
    assert {number for _, number in filled} <= {9} and len(filled) <= gap / 3600
    kept = [(at, number) for at, number in seen if (at, number) not in filled]
    assert [at for at, _ in kept] == pytest.approx(times, abs=1e-3)
    assert [number for _, number in kept] == list(range(20))


def test_a_clock_that_jumps_by_ages_holds_nobody_up(folder: Path) -> None:
    with VideoSink(folder / "odd.mp4", INFO, live=True) as sink:
        for k in range(5):
            sink.write(IMAGES[k], k / 25 + (1e12 if k >= 2 else 0))
    assert len(_stamps(folder / "odd.mp4", "video")[0]) == 5


def test_an_exception_leaves_nothing(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoSink(folder / "out.mp4", INFO) as sink:
        sink.write(IMAGES[0], 0.0)
        raise KeyboardInterrupt
    assert _left(folder) == []
    with pytest.raises(ValueError, match="closed"):
        sink.write(IMAGES[0], 0.04)


def test_a_video_without_pictures_does_not_appear(folder: Path) -> None:
    with VideoSink(folder / "out.mp4", INFO) as sink:
        pass
    sink.close()
    sink.abort()
    assert _left(folder) == []


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    path = folder / "out.mp4"
    path.write_bytes(b"precious")
    for make in (
        lambda: VideoSink(path, INFO),
        lambda: atomic_bytes(path, b"x"),
        lambda: atomic_text(path).__enter__(),
    ):
        with pytest.raises(OutputError, match="exists already; use --overwrite"):
            make()
    assert path.read_bytes() == b"precious"
    with VideoSink(path, INFO, overwrite=True) as sink:
        sink.write(IMAGES[0], 0.0)
        assert path.read_bytes() == b"precious"  # until the new one is whole
    assert path.read_bytes() != b"precious"
    assert _left(folder) == ["out.mp4"]


def test_a_file_that_appears_meanwhile_is_not_overwritten(folder: Path) -> None:
    path = folder / "out.txt"
    with pytest.raises(OutputError, match="exists already"), atomic_text(path) as file:
        file.write("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert _left(folder) == ["out.txt"]


@pytest.mark.parametrize("target", ["/dev/null", "."])
def test_what_is_no_regular_file_is_never_replaced(target: str, folder: Path) -> None:
    path = Path(target) if target.startswith("/") else folder
    if not path.exists():
        pytest.skip(f"there is no {path} here")
    with pytest.raises(OutputError, match="not a regular file"):
        atomic_bytes(path, b"x", overwrite=True)
    assert path.exists()
    assert not path.is_file()


def test_a_symbolic_link_is_followed(folder: Path) -> None:
    (folder / "deep").mkdir()
    real, link = folder / "deep" / "real.txt", folder / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    atomic_bytes(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing/out.mp4", "folder does not exist"),
        ("file/out.mp4", "not a folder"),
        ("x" * 300 + ".mp4", "too long"),
        ("out.gif", "a video is written as"),
        ("out", "a video is written as"),
    ],
)
def test_a_target_that_cannot_be_is_refused_in_one_line(folder: Path, path: str, said: str) -> None:
    (folder / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        VideoSink(folder / path, INFO)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _left(folder) == ["file"]


def test_a_full_disk_is_told_and_leaves_nothing(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with small_disk(folder / "disk") as disk:
        with (
            pytest.raises(OutputError, match="the disk is full") as caught,
            VideoSink(disk / "out.mp4", SourceInfo("t", 640, 360)) as sink,
        ):
            for index in range(200):
                sink.write(rng.integers(0, 255, (360, 640, 3), dtype=np.uint8), index / 25)
        assert "\n" not in str(caught.value)
        assert _left(disk) == []
        with pytest.raises(OutputError, match="the disk is full"):
            atomic_bytes(disk / "out.bin", bytes(1 << 20))
        with pytest.raises(OutputError, match="the disk is full"), atomic_text(disk / "out.txt") as file:
            for _ in range(1 << 10):
                file.write("x" * 1024)
        assert _left(disk) == []


def test_a_disk_that_fills_at_the_very_end_is_told(folder: Path) -> None:
    """The last bytes leave only on close: the encoder's delay, the index, Python's buffer."""
    with small_disk(folder / "disk", "64k") as disk:
        (disk / "ballast").write_bytes(bytes(60 * 1024))
        with pytest.raises(OutputError, match="the disk is full"), VideoSink(disk / "out.mp4", INFO) as sink:
            for index in range(4):
                sink.write(np.random.default_rng(index).integers(0, 255, (120, 160, 3), dtype=np.uint8), index / 25)
        with pytest.raises(OutputError, match="the disk is full"), atomic_text(disk / "out.txt") as file:
            file.write("x" * 6000)
        assert _left(disk) == ["ballast"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failing_fsync_or_rename_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, name, fail)
            with pytest.raises(OutputError, match="cannot be written"):
                atomic_bytes(folder / "out.bin", b"x")
            with pytest.raises(OutputError), VideoSink(folder / "out.mp4", INFO) as sink:
                sink.write(IMAGES[0], 0.0)
        assert _left(folder) == []


def test_an_error_of_something_else_passes_through_atomic_text(folder: Path) -> None:
    with pytest.raises(BrokenPipeError), atomic_text(folder / "out.txt"):
        raise BrokenPipeError
    with pytest.raises(KeyError), atomic_text(folder / "out.txt"):
        raise KeyError
    assert _left(folder) == []


def test_no_permission_is_told(folder: Path) -> None:
    code = (
        "import os, sys\n"
        "from facecam.errors import OutputError\n"
        "from facecam.values import SourceInfo\n"
        "from facecam.video.atomic import atomic_bytes\n"
        "from facecam.video.events import EventSink\n"
        "from facecam.video.sinks import VideoSink\n"
        "import av\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "for make in (lambda p: VideoSink(p, SourceInfo('t', 16, 16)), EventSink, lambda p: atomic_bytes(p, b'')):\n"
        "    try: make(sys.argv[1])\n"
        "    except OutputError as error: print(error)\n"
    )
    closed = folder / "closed"
    closed.mkdir(mode=0o555)
    for parent in (closed, *closed.parents):
        if parent == Path("/tmp") or not os.access(parent, os.W_OK):
            break
        if parent != closed:
            parent.chmod(parent.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", code, str(closed / "out.mp4")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.count("no permission to write there") == 3, done.stdout + done.stderr
    assert _left(closed) == []


def test_text_is_whole_utf8_with_its_own_line_ends(folder: Path) -> None:
    with atomic_text(folder / "a.txt") as file:
        file.write("ñ 山\n\udcff\n")
        assert _left(folder) != ["a.txt"]
    assert (folder / "a.txt").read_bytes() == "ñ 山\n\\udcff\n".encode()
    assert stat.S_IMODE((folder / "a.txt").stat().st_mode) == 0o600


# --- events -------------------------------------------------------------------------------------------


def test_events_are_lines_at_once_and_are_appended(folder: Path) -> None:
    path = folder / "events.jsonl"
    for round_ in range(2):
        with EventSink(path) as sink:
            sink.write({"type": "appear", "name": "Ñandú 山", "round": round_})
            assert len(path.read_text(encoding="utf-8").splitlines()) == round_ + 1  # flushed
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1]
    assert "Ñandú 山" in lines[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_events_go_to_stdout_which_stays_open(capsys: pytest.CaptureFixture[str]) -> None:
    with EventSink("-") as sink:
        sink.write({"name": "Ada"})
    print("still here")
    assert capsys.readouterr().out == '{"name": "Ada"}\nstill here\n'


def test_events_on_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    EventSink("-").write({"name": "山"})
    assert json.loads(raw.getvalue()) == {"name": "山"}


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    reader = threading.Thread(target=lambda: (folder / "pipe").open().readline())
    reader.start()
    with EventSink(folder / "pipe") as sink:
        sink.write({"n": 0})
        reader.join()
        for number in range(1, 5):
            sink.write({"n": number})
        assert sink.closed


def test_a_closed_stdout_is_quiet_until_the_interpreter_has_ended() -> None:
    code = (
        "from facecam.video.events import EventSink\n"
        "with EventSink('-') as sink:\n"
        "    for number in range(100000):\n"
        "        sink.write({'n': number})\n"
        "    assert sink.closed\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline()) == {"n": 0}
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0
    assert errors == b""


def test_events_that_cannot_be_written_are_told(folder: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        EventSink(folder / "none" / "events.jsonl")
    with pytest.raises(OutputError, match="folder"):
        EventSink(folder)
    if Path("/dev/full").exists():
        sink = EventSink("/dev/full")
        with pytest.raises(OutputError, match="disk is full"):
            sink.write({})
