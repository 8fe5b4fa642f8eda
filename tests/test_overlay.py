from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.values import Face, Image, Match, Sighting
from facecam.video import canvas, overlay, text
from facecam.video.canvas import Picture
from facecam.video.overlay import blur, draw
from tests.fakes import sighting, smooth

GREY = 90


def _grey(width: int = 320, height: int = 240) -> Image:
    return np.full((height, width, 3), GREY, np.uint8)


def _touched(image: Image) -> tuple[int, int, int, int]:
    """left, top, right, bottom of what differs from grey."""
    rows, columns = np.nonzero((image != GREY).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _has(image: Image, colour: tuple[int, int, int]) -> bool:
    return bool((image == np.array(colour, np.uint8)).all(axis=2).any())


def test_the_three_kinds_of_face_differ_in_colour_and_in_shape() -> None:
    shapes = []
    for seen, colour in (
        (sighting((100, 100, 80, 80)), overlay._KNOWN),
        (sighting((100, 100, 80, 80), None, 0.2), overlay._UNKNOWN),
        (sighting((100, 100, 80, 80), None, None, decided=False), overlay._UNDECIDED),
    ):
        image = _grey()
        draw(image, [seen])
        assert _has(image, colour)
        box = image[100:180, 100:180]
        assert (box[40, 40] == GREY).all()  # the face stays free
        assert (box[0, 0] == colour).all() or (box[0, 0] == 0).all()
        left_side = (box[:, 0] != GREY).any(axis=1)
        shapes.append(int(left_side.sum()))
    known, unknown, undecided = shapes
    assert known == 80
    assert 40 < unknown < 70
    assert 20 < undecided < unknown


def test_colours_stay_apart_for_the_colour_blind() -> None:
    """Brightness alone (no colour vision at all) already tells the three apart."""
    weights = np.array([0.0722, 0.7152, 0.2126])  # BGR, ITU-R BT.709
    bright = sorted(float(weights @ c) for c in (overlay._KNOWN, overlay._UNKNOWN, overlay._UNDECIDED))
    assert bright[2] - bright[1] > 30
    # Sky blue against orange: apart along the blue-yellow axis, which the red-green blind see.
    assert abs(overlay._KNOWN[0] - overlay._UNKNOWN[0]) > 150


@pytest.mark.parametrize(
    "box",
    [(-30, -30, 80, 80), (280, 200, 80, 80), (100, -10, 60, 60), (0, 0, 320, 240), (-500, -500, 2000, 2000)],
)
def test_the_label_stays_in_the_frame(box: tuple[float, float, float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        canvas, "put", lambda image, words, x, y, size, ink: places.append((x, y, x + text.width_of(words, size)))
    )
    draw(_grey(), [sighting(box, "Lin-Manuel Miranda")])
    assert len(places) == 1
    left, top, right = places[0]
    assert 0 <= left < right <= 320
    assert 0 <= top <= 240 - text.line_height(13)


def test_a_face_outside_the_frame_draws_nothing() -> None:
    for box in ((400, 10, 50, 50), (10, 300, 50, 50), (-90, 10, 50, 50), (10, -90, 50, 50)):
        image = _grey()
        draw(image, [sighting(box)], blur_unknown=True)
        assert (image == GREY).all()


def test_labels_do_not_hide_under_the_status_strip() -> None:
    image, plain = _grey(), _grey()
    lines = ["30 fps", "cpu"]
    draw(plain, [], hud=lines)
    draw(image, [sighting((0, 20, 60, 60))], hud=lines)
    height = 2 * text.line_height(13)
    assert np.array_equal(image[:19, :40], plain[:19, :40])
    assert _has(image[height:, :], overlay._KNOWN)


def test_the_status_strip_is_translucent_and_readable() -> None:
    image = smooth(320, 240)
    before = image.copy()
    draw(image, [], hud=["30 fps  cpu"])
    strip = image[: text.line_height(13), :90]
    assert (strip > 230).all(axis=2).sum() > 20  # letters
    dark = before[: text.line_height(13), :90] >> 2
    assert (strip == dark).all(axis=2).mean() > 0.4  # the picture shines through
    assert np.array_equal(image[100:], before[100:])


def test_help_stands_in_the_middle() -> None:
    image = _grey()
    draw(image, [], help_lines=["q  quit", "s  snapshot"])
    left, top, right, bottom = _touched(image)
    assert abs((left + right) / 2 - 160) < 4
    assert abs((top + bottom) / 2 - 120) < 4


def test_scale_makes_text_larger_and_refuses_nonsense() -> None:
    heights = []
    for scale in (0.5, 1.0, 2.0):
        image = _grey(640, 360)
        draw(image, [], hud=["fps"], scale=scale)
        heights.append(_touched(image)[3])
    assert heights == sorted(set(heights))
    with pytest.raises(ValueError, match="scale"):
        draw(_grey(), [], scale=9)


def test_text_and_lines_follow_the_frames_height() -> None:
    small, large = _grey(640, 360), _grey(1920, 1080)
    draw(small, [sighting((100, 100, 100, 100))])
    draw(large, [sighting((300, 300, 300, 300))])
    assert 2.0 < (_touched(large)[2] - 300) / (_touched(small)[2] - 100) < 4.5


# --- blur ---------------------------------------------------------------------------------------------


def _texture(width: int = 200, height: int = 200) -> Image:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_faces_without_a_name_are_blurred_and_no_others() -> None:
    for seen, hidden in (
        (sighting((60, 60, 80, 80), None), True),
        (sighting((60, 60, 80, 80), None, decided=False), True),
        (sighting((60, 60, 80, 80), "Ada"), False),
    ):
        image = _texture()
        draw(image, [seen], blur_unknown=True)
        inside = image[70:130, 70:130].astype(float)
        assert (np.abs(np.diff(inside, axis=1)).mean() < 4) == hidden
        assert np.array_equal(image[190:], _texture()[190:])
    image = _texture()
    draw(image, [sighting((60, 60, 80, 80), None)])
    assert np.array_equal(image[70:130, 70:130], _texture()[70:130, 70:130])


def test_the_blur_keeps_next_to_nothing() -> None:
    """What is left are at most 6 x 6 cells: 108 numbers, whatever the size of the face."""
    image = _texture()
    blur(Picture(image), (60, 60, 80, 80))
    region = image[40:160, 40:160].astype(float)
    singular = np.linalg.svd(region[:, :, 0] - region[:, :, 0].mean(), compute_uv=False)
    assert (singular[7:] < 0.05 * singular[0]).all()


def test_two_pictures_of_equal_averages_look_the_same_when_blurred() -> None:
    """Averages cannot be undone: detail finer than a cell leaves no trace."""
    one, other = _grey(240, 240), _grey(240, 240)
    one[::2, ::2] += 40
    other[1::2, 1::2] += 40
    for image in (one, other):
        blur(Picture(image), (60, 60, 80, 80))
    assert np.abs(one[45:155, 45:155].astype(int) - other[45:155, 45:155]).max() <= 1


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (5, 5, 0.01, 0.01), (-100, -100, 5000, 5000), (198, 0, 2, 300)])
def test_any_box_can_be_blurred(box: tuple[float, float, float, float]) -> None:
    blur(Picture(_texture()), box)


# --- text ---------------------------------------------------------------------------------------------


def test_unicode_names_are_drawn_with_their_own_letters() -> None:
    def drawn(words: str) -> bytes:
        image = np.zeros((40, 200, 3), np.uint8)
        text.put(image, text.fitted(words, 20, 190), 2, 2, 20, (255, 255, 255))
        assert image.any()
        return image.tobytes()

    names = ["Żółć", "Ирина", "山田", "이순신", "Ñandú", "Ωμέγα", "שלום"]
    pictures = [drawn(name) for name in names]
    assert len(set(pictures)) == len(names)
    for name, picture in zip(names, pictures):
        assert picture != drawn("?" * len(name))


def test_right_to_left_names_are_put_in_visual_order() -> None:
    assert text.visual("שלום") == "םולש"
    assert text.visual("שלום עולם") == "םלוע םולש"
    assert text.visual("Dana כהן 12") == "Dana ןהכ 12"
    assert text.visual("Ada Lovelace 3") == "Ada Lovelace 3"


def test_long_names_are_shortened_with_an_ellipsis_and_keep_the_similarity() -> None:
    name = "Wolfeschlegelsteinhausenbergerdorff the elder and the younger"
    short = text.fitted(name, 13, 150, " 0.83")
    assert short.endswith("… 0.83")
    assert short.startswith("Wolfe")
    assert text.width_of(short, 13) <= 150
    longer = text.fitted(name, 13, 200, " 0.83")
    assert len(longer) > len(short)
    assert text.fitted("Ada", 13, 150, " 0.83") == "Ada 0.83"


def test_what_crashes_the_renderer_never_reaches_it() -> None:
    assert text.clean("a\ud800b") == "a\ufffdb"
    assert text.clean("a\0b\nc\td\u202ee") == "a b c d e"


def test_a_lone_surrogate_does_not_kill_the_process() -> None:
    code = (
        "import numpy as np\n"
        "from facecam.values import Face, Match, Sighting\n"
        "from facecam.video.overlay import draw\n"
        "seen = Sighting(1, Face((5, 50, 40, 40), 1.0), Match('a\\ud800\\udfff', 0.5))\n"
        "draw(np.zeros((120, 160, 3), np.uint8), [seen], hud=['\\udcff'])\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "alive\n", done.stderr


# Any characters at all, lone surrogates and controls included.
ANY_TEXT = st.text(st.characters(), max_size=60)
FAR = st.one_of(
    st.floats(-1e4, 1e4),
    st.sampled_from([-1e300, 1e300, -(2.0**31), 2.0**31, 2.0**63, 0.0, -0.5, 0.49999]),
)
SIZE = st.one_of(st.floats(1e-3, 5e3), st.sampled_from([1e300, 2.0**31, 1e-300]))


@settings(max_examples=100, deadline=None)
@given(
    name=st.one_of(st.none(), ANY_TEXT),
    similarity=st.one_of(st.none(), st.floats(allow_nan=True)),
    box=st.tuples(FAR, FAR, SIZE, SIZE),
    decided=st.booleans(),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 130)),
    hud=st.lists(ANY_TEXT, max_size=3),
    help_lines=st.lists(ANY_TEXT, max_size=3),
    blurred=st.booleans(),
    scale=st.sampled_from([0.25, 1.0, 4.0]),
)
def test_nothing_raises_and_nothing_is_drawn_outside(
    name: str | None,
    similarity: float | None,
    box: tuple[float, float, float, float],
    decided: bool,
    shape: tuple[int, int],
    hud: list[str],
    help_lines: list[str],
    blurred: bool,
    scale: float,
) -> None:
    canvas = np.full((shape[0] + 20, shape[1] + 20, 3), GREY, np.uint8)
    image = canvas[10:-10, 10:-10]
    seen = sighting(box, name, similarity, decided=decided)
    draw(image, [seen, seen], hud=hud, help_lines=help_lines, blur_unknown=blurred, scale=scale)
    image[:] = GREY
    assert (canvas == GREY).all()


def test_a_stranger_with_a_number_is_told_from_others() -> None:
    shown = []
    for number in (None, 3, 12):
        image = np.full((200, 300, 3), 128, np.uint8)
        draw(image, [Sighting(1, Face((40.0, 60.0, 80.0, 80.0), 1.0), Match(), True, number)])
        shown.append(int((np.abs(image.astype(int) - 128).max(axis=2) > 0)[:60].sum()))
    assert shown[0] < shown[1] < shown[2], "unknown, Unknown 3, Unknown 12: each strip is wider"


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT, st.integers(6, 60), st.integers(-5, 400), st.sampled_from(["", " 0.83"]))
def test_fitted_text_fits(words: str, size: int, room: int, tail: str) -> None:
    line = text.fitted(words, size, room, tail)
    assert text.width_of(line, size) <= max(room, 0)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in line)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_visual_order_keeps_every_character(words: str) -> None:
    assert sorted(text.visual(words)) == sorted(words)


def test_in_a_crowd_a_name_is_drawn_over_those_without() -> None:
    crowd = [sighting((40 + 12 * k, 40 + 9 * k, 40, 40), None, None) for k in range(14)]
    for place in (0, 7, 14):
        image, alone = _grey(), _grey()
        friend = sighting((120, 100, 40, 40), "Ada", 0.99)
        draw(image, [*crowd[:place], friend, *crowd[place:]])
        draw(alone, [friend])
        named = (alone != GREY).any(axis=2)
        assert np.array_equal(image[named], alone[named]), "every pixel of box and name, wherever it stands in the list"


def test_a_label_makes_room_for_another_and_goes_where_there_is_none() -> None:
    def labels(sightings: list[Sighting]) -> list[tuple[int, int, int, int]]:
        found = []

        class Spy(Picture):
            def label(self, text: str, place: tuple[int, int, int, int], *style: object) -> None:
                found.append((text, place))

        overlay.mark(Spy(_grey(640, 480)), sightings)
        return found

    two = [sighting((100, 100, 60, 60), "Ada", 0.99), sighting((110, 102, 60, 60), "Grace", 0.98)]
    (_, first), (_, second) = labels(two)
    assert first[1] < 100 and second[1] >= 160, "the second stands below its box"
    assert labels(two[:1]) == labels(two)[:1], "the first does not move"
    strangers = [sighting((100 + 4 * k, 100 + 4 * k, 60, 60), None, None) for k in range(6)]
    shown = labels(strangers)
    assert 1 < len(shown) < 6
    places = [place for _, place in shown]
    assert not any(overlay._overlap(a, b) for i, a in enumerate(places) for b in places[i + 1 :])
    assert len(labels([sighting((100, 100, 60, 60), name, 0.9) for name in ("A", "B", "C", "D")])) == 4, "names stay"
