"""Where nothing changed nobody is looked for: which parts of a picture are searched again, and what that misses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.engine import Engine
from facecam.geometry import iou
from facecam.scan import CHANGE, LIVELY, WHOLE, Scan, Stillness, Timing
from facecam.settings import Settings
from facecam.values import Face, Frame, Image
from facecam.video.photos import read_photo
from facecam.vision.detect import MmodDetector
from facecam.vision.tiles import BORDER, WINDOW, shows, tiles
from tests.support import COFFEE, fed_pixels, portrait


def known(still: Stillness, image: Image, due: list[int], found: tuple[Face, ...] = ()) -> np.ndarray | None:
    cells = still.cells(image)
    changed = still.changed(cells, due)
    still.searched(cells, due, changed, found)
    return changed


def test_cells_that_changed_are_searched_again_and_slow_change_adds_up() -> None:
    still = Stillness(320, 240, 40, 2)
    image = np.full((240, 320, 3), 90, np.uint8)
    assert known(still, image, [0, 1]) is None, "of a new shot nothing is known"
    changed = known(still, image, [0, 1])
    assert changed is not None and changed.shape == (30, 40) and not changed.any()
    image[80:120, 160:200] += int(CHANGE)
    changed = known(still, image, [0])
    assert changed is not None and changed.sum() == 25 and changed[10:15, 20:25].all()
    assert not known(still, image, [0]).any()  # type: ignore[union-attr]
    assert known(still, image, [1]).sum() == 25, "that level was not searched since"  # type: ignore[union-attr]
    for step in range(1, 4):
        image += 2  # type: ignore[assignment]
        changed = known(still, image, [0])
        assert changed is not None and changed.any() == (2 * step >= CHANGE)


def test_a_place_where_a_face_was_found_is_searched_again_and_now_and_then_everything() -> None:
    still = Stillness(320, 240, 40, 1)
    image = np.full((240, 320, 3), 90, np.uint8)
    face = Face((160.0, 80.0, 40.0, 40.0), 0.9)
    known(still, image, [0], (face,))
    looks = [known(still, image, [0], (face,)) for _ in range(2 * WHOLE)]
    whole = [i for i, changed in enumerate(looks) if changed is None]
    assert whole == [WHOLE - 1, 2 * WHOLE - 1]
    assert all(changed is None or (changed.sum() == 25 and changed[10:15, 20:25].all()) for changed in looks)
    again = [known(still, image, [0]) for _ in range(LIVELY + 1)]
    assert [changed is None or changed.any() for changed in again] == [True] * LIVELY + [False], "the face is gone"


@settings(max_examples=200, deadline=None)
@given(
    st.integers(120, 2000), st.integers(120, 1200), st.floats(0.2, 2.0), st.floats(16, 60),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=3), st.floats(-1, 1), st.floats(-1, 1),
)  # fmt: skip
def test_every_window_with_a_changed_cell_is_in_a_searched_part(
    width: int, height: int, scale: float, min_face: float, places: list[tuple[float, float]], dx: float, dy: float
) -> None:
    size = max(40, round(width * scale)), max(40, round(height * scale))
    framed = np.zeros((size[1] + 2 * BORDER, size[0] + 2 * BORDER + -(size[0] + 2 * BORDER) % 4, 3), np.uint8)
    rows, columns = max(1, round(height / min_face * 5)), max(1, round(width / min_face * 5))
    changed = np.zeros((rows, columns), np.uint8)
    for u, v in places:
        changed[min(rows - 1, int(v * rows)), min(columns - 1, int(u * columns))] = 1
    parts = list(tiles(framed, size, changed))
    areas = [(t.left, t.top, t.left + t.pixels.shape[1], t.top + t.pixels.shape[0]) for t in parts]
    for x0, y0, x1, y1 in areas:
        assert 0 <= x0 < x1 <= framed.shape[1] and 0 <= y0 < y1 <= framed.shape[0]
        assert (x1 - x0) % 4 == 0, "the int8 detector's blocks"
    for u, v in places:
        # The middle of a window whose edge is this cell's middle at the utmost, on the framed level.
        column, row = min(columns - 1, int(u * columns)), min(rows - 1, int(v * rows))
        x = min(max(0, (column + 0.5) * size[0] / columns + dx * WINDOW / 2), size[0] - 1) + BORDER
        y = min(max(0, (row + 0.5) * size[1] / rows + dy * WINDOW / 2), size[1] - 1) + BORDER
        wide, high = framed.shape[1], framed.shape[0]
        around = 56  # half of what tiles share, and of the crops that follow a face about as much
        assert any(
            x0 <= max(0, x - around) and min(wide, x + around) <= x1
            and y0 <= max(0, y - around) and min(high, y + around) <= y1
            for x0, y0, x1, y1 in areas
        )  # fmt: skip
        assert any(tile.trusts(x - tile.left, y - tile.top) for tile in parts), (areas, x, y)
    assert len({(tile.left, tile.top) for tile in parts}) == len(parts)


@pytest.mark.parametrize(("x", "y", "pixels"), [(60, 40, 48), (1500, 700, 60), (900, 500, 90), (1780, 20, 70)])
def test_somebody_who_comes_into_a_still_picture_is_found_for_less(engine: Engine, x: int, y: int, pixels: int) -> None:
    detector = engine.detector
    assert isinstance(detector, MmodDetector)
    empty = cv2.resize(read_photo(COFFEE), (1920, 1080))
    scene = empty.copy()
    zoom = pixels / 95
    face = cv2.resize(portrait("astronaut")[20:200, 120:320], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    height, width = (min(a, b) for a, b in zip(face.shape, (1080 - y, 1920 - x)))
    scene[y : y + height, x : x + width] = face[:height, :width]
    scales = detector.levels(1920, 1080, 40)[:6]
    still = Stillness(1920, 1080, 40, 1)
    known(still, empty, [0])
    changed = still.changed(still.cells(scene), [0])
    assert changed is not None and 0 < changed.mean() < 0.05
    seen: dict[str, list[Face]] = {}
    whole = fed_pixels(detector, lambda: seen.update(whole=detector.detect_levels(scene, scales)))
    part = fed_pixels(detector, lambda: seen.update(part=detector.detect_levels(scene, scales, changed)))
    assert len(seen["whole"]) == len(seen["part"]) == 1
    assert iou(seen["whole"][0].box, seen["part"][0].box) > 0.85
    assert part < 0.4 * whole


def test_nothing_changed_takes_no_search_and_who_comes_is_found_in_time(engine: Engine) -> None:
    """The whole of the schedule, on a still picture with grain that somebody comes into."""
    rng = np.random.default_rng(0)
    empty = cv2.resize(read_photo(COFFEE), (640, 360))
    scene = empty.copy()
    face = cv2.resize(portrait("astronaut")[20:200, 120:320], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    scene[100 : 100 + face.shape[0], 400 : 400 + face.shape[1]] = face
    scan = Scan(engine.detector, Settings(), Timing())
    found: dict[int, list[Face]] = {}
    searched = []
    for index in range(130):
        grain = np.rint(rng.normal(0, 3, (360, 640, 1)))
        image = np.clip((scene if index >= 80 else empty) + grain, 0, 255).astype(np.uint8)
        seen = scan.see(Frame(index, index / 30, image), cut=index == 0)
        if seen.found is not None:
            searched.append(index)
            found[index] = seen.found
    quiet = [index for index in searched if 0 < index < 80]
    assert len(quiet) <= 3, "only the turns at which a level is searched whole"
    first = min(index for index, faces in found.items() if faces)
    assert 80 <= first < 80 + 36
    assert all(len(faces) <= 1 for faces in found.values())
    assert found[first][0].box[2] == pytest.approx(57, rel=0.25)


def test_hints_where_nothing_changed_are_left_out(engine: Engine) -> None:
    detector = engine.video_detector
    assert isinstance(detector, MmodDetector) and detector.scout is not None
    image = cv2.resize(read_photo(COFFEE), (1280, 720))
    face = cv2.resize(portrait("astronaut")[20:200, 120:320], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for x in (100, 400, 700, 1000):
        image[300 : 300 + face.shape[0], x : x + face.shape[1]] = face
    scales = detector.levels(1280, 720, 40)[:3]
    seen: list[Face] = []

    def pixels(changed: np.ndarray | None) -> int:
        seen.clear()
        return fed_pixels(detector, lambda: seen.extend(detector.detect_levels(image, scales, changed)))

    some = np.zeros((90, 160), np.uint8)
    some[40:45, 16:21] = 1  # on the first of them
    everywhere = pixels(None)
    assert len(seen) == 4
    assert 0 < pixels(some) < 0.4 * everywhere
    assert len(seen) == 1
    assert pixels(np.ones((90, 160), np.uint8)) == everywhere
    assert pixels(np.zeros((90, 160), np.uint8)) == 0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(8, 200), st.integers(0, 44), st.integers(0, 79))
def test_a_window_shows_the_cells_that_it_covers(u: float, v: float, window: float, row: int, column: int) -> None:
    image = np.zeros((360, 640, 3), np.uint8)
    changed = np.zeros((45, 80), np.uint8)
    changed[row, column] = 1
    x, y = u * 639, v * 359
    apart = max(abs(x - (8 * column + 4)), abs(y - (8 * row + 4))) - window / 2
    if apart < -1:
        assert shows(changed, image, (x, y), window)
    if apart > 13:
        assert not shows(changed, image, (x, y), window)
