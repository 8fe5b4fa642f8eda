"""Drawing on the planes of a decoded picture: the same as on a BGR picture, and nothing else of it changes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.values import Frame, Image
from facecam.video.canvas import Picture, Planes
from facecam.video.overlay import blur, mark
from facecam.video.planar import Colours, Planar, planes_of
from facecam.video.sinks import VideoSink
from facecam.video.sources import FileSource
from tests.fakes import make_clip, sighting, smooth

NAMES = ["Lin-Manuel Miranda", "小泉 Łukasz Ωμέγα", None]


def _picture(width: int, height: int, value: int = 90) -> Any:
    """A grey decoded picture of its own memory."""
    rows: Any = np.full((height * 3 // 2, width), 128, np.uint8)
    rows[:height] = value
    return av.VideoFrame.from_numpy_buffer(rows, format="yuv420p")


def _bgr(planar: Planar) -> Image:
    matrix = planar.colours.told(planar.height)
    return VideoReformatter().reformat(planar.picture, format="bgr24", src_colorspace=matrix).to_ndarray()


def _first(path: Path) -> Frame:
    with FileSource(path) as source:
        frame = source.read()
    assert frame is not None
    return frame


def _apart(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("matrix", [1, 5, 2])
@pytest.mark.parametrize("name", NAMES)
def test_both_canvases_show_the_same(matrix: int, name: str | None) -> None:
    planar = Planar(_picture(640, 360), Colours(matrix, matrix, matrix))
    image = _bgr(planar)
    seen = [sighting((81, 60, 90, 97), name), sighting((300, 101, 120, 121), name, track=2)]
    plain = image.copy()
    mark(Picture(image), seen)
    mark(Planes(planar), seen)
    drawn = np.abs(image.astype(int) - plain).max(axis=2) > 20
    assert drawn.sum() > 2000
    shown = _bgr(planar)
    # Colours of whole areas are the same; edges may differ, since colour is known for pairs of pixels.
    assert np.median(np.abs(shown[drawn].astype(int) - image[drawn]), axis=0).max() <= 3
    light, dark = (picture.astype(int).sum(axis=2) for picture in (shown, image))
    assert np.corrcoef(light[drawn], dark[drawn])[0, 1] > 0.75


def test_a_name_can_be_read_on_planes_as_on_a_picture() -> None:
    """Letters stand in the brightness, which has every pixel: on even places they are the same."""
    planar = Planar(_picture(640, 360), Colours())
    image = _bgr(planar)
    for canvas in (Picture(image), Planes(planar)):
        mark(canvas, [sighting((80, 60, 90, 90), "小泉 Zoë", None)])
    strip = slice(42, 60), slice(80, 140)
    want, _, _ = planes_of(np.ascontiguousarray(image[strip]), 1)
    assert want.min() < 60 < 140 < want.max()
    assert np.abs(planar.planes[0][strip].astype(int) - want).max() <= 2


COORDINATE = st.one_of(st.integers(-60, 200), st.sampled_from([-1e300, 1e300, -(2.0**31), 0.5]))
SIZE = st.one_of(st.floats(0.01, 400), st.just(1e300))


@settings(max_examples=100, deadline=None)
@given(
    box=st.tuples(COORDINATE, COORDINATE, SIZE, SIZE),
    name=st.one_of(st.none(), st.text(max_size=20)),
    shape=st.tuples(st.integers(8, 40), st.integers(8, 60)),
    hidden=st.booleans(),
)
def test_any_box_is_drawn_on_any_size_and_the_decoders_picture_stays(
    box: tuple[float, float, float, float], name: str | None, shape: tuple[int, int], hidden: bool
) -> None:
    picture = _picture(2 * shape[1], 2 * shape[0])
    planar = Planar(picture, Colours())
    if hidden:
        blur(Planes(planar), box)
    mark(Planes(planar), [sighting(box, name)])
    assert (picture.to_ndarray() == _picture(2 * shape[1], 2 * shape[0]).to_ndarray()).all()


def test_a_box_touches_only_where_it_is() -> None:
    planar = Planar(_picture(640, 360), Colours())
    before = planar.planes[0].copy()
    mark(Planes(planar), [sighting((301, 101, 60, 60), "A", None)])
    rows, columns = np.nonzero(planar.planes[0] != before)
    assert (columns.min(), columns.max()) == (300, 361)
    assert rows.max() == 161 and rows.min() >= 101 - 1 - 18
    assert (planar.planes[0][105:155, 305:355] == before[105:155, 305:355]).all(), "the face itself"


@pytest.mark.parametrize("size", [(320, 238), (318, 240), (318, 234), (322, 242)])
@pytest.mark.parametrize("rotation", [None, 90])
def test_a_picture_that_is_drawn_on_keeps_its_size_and_colours(
    size: tuple[int, int], rotation: int | None, tmp_path: Path
) -> None:
    """Not every even size is one that four divides: 1280 x 534 of a film."""
    frame = _first(make_clip(tmp_path / "in.mp4", [smooth(*size)] * 3, rotation=rotation))
    planar = frame.planar()
    assert planar is not None
    mark(Planes(planar), [sighting((10, 30, 20, 20), None)])
    assert (planar.picture.width, planar.picture.height) == (frame.width, frame.height)
    shown = _bgr(planar)
    assert _apart(shown[100:], frame.image[100:]) < 2.5


def test_a_blurred_face_is_gone_from_all_planes() -> None:
    rng = np.random.default_rng(0)
    rows: Any = rng.integers(0, 256, (240 * 3 // 2, 320), np.uint8)
    planar = Planar(av.VideoFrame.from_numpy_buffer(rows, format="yuv420p"), Colours())
    before = [plane.copy() for plane in planar.planes]
    blur(Planes(planar), (101, 81, 80, 80))
    for plane, old, scale in zip(planar.planes, before, (1, 2, 2)):
        inside = slice(81 // scale, 161 // scale), slice(101 // scale, 181 // scale)
        assert plane[inside].std() < 15 < 60 < old[inside].std()
        assert (plane[: 50 // scale] == old[: 50 // scale]).all()


# --- decoded pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuvj444p"])
@pytest.mark.parametrize("rotation", [None, 90, 180])
def test_planes_are_the_picture_upright(pixels: str, rotation: int | None, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", [smooth(320, 240)] * 3, pixels=pixels, rotation=rotation)
    frame = _first(clip)
    planar = frame.planar()
    assert planar is not None
    assert (planar.width, planar.height) == (frame.width, frame.height)
    assert [plane.shape for plane in planar.planes[1:]] == [(frame.height // 2, frame.width // 2)] * 2
    assert _apart(_bgr(planar), frame.image) < 2.5


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    frame = _first(make_clip(tmp_path / "in.mp4", [smooth(240, 240)] * 3, aspect=Fraction(4, 3)))
    planar = frame.planar()
    assert planar is not None and (planar.width, planar.height) == (320, 240)
    assert _apart(_bgr(planar), frame.image) < 2.5


@pytest.mark.parametrize(
    ("size", "pixels", "codec"),
    [((161, 120), "yuv444p", "libx264"), ((160, 120), "yuv420p10le", "libx264"), ((160, 120), "bgr0", "ffv1")],
)
def test_what_planes_cannot_say_is_had_as_bgr(size: tuple[int, int], pixels: str, codec: str, tmp_path: Path) -> None:
    frame = _first(make_clip(tmp_path / "in.mkv", [smooth(*size)] * 3, pixels=pixels, codec=codec))
    assert frame.planar() is None
    assert _apart(frame.image, smooth(*size)) < 8


def test_drawing_does_not_harm_the_pictures_that_follow(tmp_path: Path) -> None:
    """A decoder makes the next pictures out of those before: they must stay as they are."""
    images = [smooth(320, 240, seed) for seed in range(12)]
    clip = make_clip(tmp_path / "in.mp4", images)
    with FileSource(clip) as source:
        want = [frame.image.copy() for frame in source]
    with FileSource(clip) as source:
        for frame, image in zip(source, want):
            planar = frame.planar()
            for plane in planar.planes:
                plane[:] = 0
            assert (frame.image == image).all()


@pytest.mark.parametrize("matrix", [1, 5])
def test_a_file_keeps_colours_and_says_which(matrix: int, tmp_path: Path) -> None:
    """The numbers go through as they are: right only together with the word on what they mean."""
    image = smooth(320, 240)
    code = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(image, format="bgr24"), format="yuv420p", dst_colorspace=matrix
    )
    planar = Planar(code, Colours(matrix, matrix, matrix))
    with (
        FileSource(make_clip(tmp_path / "in.mp4", [image])) as source,
        VideoSink(tmp_path / "out.mp4", source.info, colours=planar.colours) as sink,
    ):
        assert sink.fits(planar)
        assert not sink.fits(Planar(code, Colours(6 - matrix, 1, 1)))
        assert not sink.fits(Planar(_picture(160, 120), planar.colours))
        sink.write(planar, 0.0)
        sink.write(image, 0.04)  # a BGR picture between them is given the same colours
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.streams.video[0].codec_context.colorspace == matrix
    with FileSource(tmp_path / "out.mp4") as source:
        assert all(_apart(frame.image, image) < 4 for frame in source)


def test_planes_of_known_colours() -> None:
    """White, black and red of BT.709 and BT.601 (H.273): 235, 16; red 63, 102, 240 and 81, 90, 240."""
    for matrix, red in ((1, (63, 102, 240)), (5, (81, 90, 240))):
        for colour, want in (((255, 255, 255), (235, 128, 128)), ((0, 0, 0), (16, 128, 128)), ((0, 0, 255), red)):
            got = [int(plane[0, 0]) for plane in planes_of(np.full((2, 2, 3), colour, np.uint8), matrix)]
            assert got == list(want)
