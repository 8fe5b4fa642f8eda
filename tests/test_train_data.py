"""Scanning and splitting: what is used, what is skipped, and what never meets."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from facecam.errors import MediaError, UsageFault
from train import data, evaluate, idx, picture
from train.recipe import Recipe


def paint(path: Path, seed: int, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def folder(root: Path, seed: int = 0, **classes: int) -> Path:
    for name, count in classes.items():
        for number in range(count):
            seed += 1
            paint(root / name / f"{number:03}.png", seed)
    return root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder (tmp_path holds the test's facecam home)."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def load(root: Path, **changes: object) -> data.Corpus:
    options: dict = {"val": 0.2, "test": 0.2, "seed": 1, **changes}
    return data.load(root, **options)


def test_split_is_stratified_and_complete(place: Path) -> None:
    corpus = load(folder(place, cats=20, dogs=10))
    assert corpus.classes == ("cats", "dogs")
    assert corpus.counts(corpus.test) == [4, 2]
    assert corpus.counts(corpus.val) == [4, 2]
    assert corpus.counts(corpus.train) == [12, 6]


def test_split_repeats_with_its_seed_alone(place: Path) -> None:
    root = folder(place, a=12, b=12)
    assert load(root) == load(root)
    assert load(root).digest != load(root, seed=2).digest


def test_copies_stay_together(place: Path) -> None:
    root = folder(place, a=6, b=6)
    for number in range(6):
        content = (root / "a" / f"{number:03}.png").read_bytes()
        for copy in range(3):
            (root / "a" / f"copy{copy}-{number}.png").write_bytes(content)
    corpus = load(root)
    parts = [{item.digest for item in part} for part in (corpus.train, corpus.val, corpus.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert sum(map(len, (corpus.train, corpus.val, corpus.test))) == 30


def test_sessions_stay_together(place: Path) -> None:
    for person in ("ada", "bob"):
        for sitting in range(5):
            for number in range(4):
                paint(place / person / f"session{sitting}_{number}.png", hash((person, sitting, number)) % 2**31)
    corpus = load(place)
    groups = [{item.group for item in part} for part in (corpus.train, corpus.val, corpus.test)]
    assert all(groups) and not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def no_leak(corpus: data.Corpus) -> None:
    """Nothing of one part has its content or its sitting in another."""
    parts = (corpus.train, corpus.val, corpus.test)
    for key in (lambda i: i.digest, lambda i: (i.label, i.group)):
        seen = [{key(item) for item in part} for part in parts]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_copies_outside_a_sitting_stay_with_it(place: Path) -> None:
    root = folder(place, cats=20, dogs=20)
    for picture_file in sorted(root.rglob("*.png")):
        sitting = int(picture_file.stem) // 4
        copy = picture_file.with_name(f"session{sitting}_{picture_file.name}")
        copy.write_bytes(picture_file.read_bytes())
    corpus = load(root)
    assert corpus.test and corpus.val and not corpus.skipped
    assert sum(map(len, (corpus.train, corpus.val, corpus.test))) == 80
    no_leak(corpus)


def test_a_picture_of_two_sittings_joins_them(place: Path) -> None:
    root = folder(place, b=6)
    for sitting in range(6):
        for number in range(3):
            paint(root / "a" / f"session{sitting}_{number}.png", 300 + 10 * sitting + number)
    (root / "a" / "session5_again.png").write_bytes((root / "a" / "session0_0.png").read_bytes())
    corpus = load(root)
    groups = {Path(i.path).name: i.group for i in (*corpus.train, *corpus.val, *corpus.test) if i.label == 0}
    assert groups["session0_1.png"] == groups["session5_1.png"] == "a/session0"
    assert len(set(groups.values())) == 5
    no_leak(corpus)


def test_sittings_of_two_people_have_nothing_in_common(place: Path) -> None:
    for number, person in enumerate(("Ada", "Bob")):
        for sitting in range(6 - 3 * number):
            for shot in range(4):
                paint(place / person / "photos" / f"session{sitting}_{shot}.png", 100 * number + 10 * sitting + shot)
    for seed in range(5):
        corpus = load(place, seed=seed, test=0.3)
        assert not corpus.skipped and sum(map(len, (corpus.train, corpus.val, corpus.test))) == 36
        no_leak(corpus)


def test_what_the_own_test_folder_shows_is_kept_out_of_the_rest(place: Path) -> None:
    folder(place / "train", cats=8, dogs=8)
    folder(place / "val", 50, cats=3, dogs=3)
    folder(place / "test", 70, cats=3, dogs=3)
    shown = (place / "test" / "dogs" / "000.png").read_bytes()
    (place / "train" / "cats" / "session1_0.png").write_bytes((place / "test" / "dogs" / "001.png").read_bytes())
    paint(place / "train" / "cats" / "session1_1.png", 90)
    (place / "val" / "dogs" / "session9_0.png").write_bytes(shown)
    (place / "train" / "dogs" / "session3_0.png").write_bytes(shown)
    paint(place / "train" / "dogs" / "session3_1.png", 91)  # of the sitting that the test part shows a picture of
    corpus = load(place)
    reasons = {str(Path(path).relative_to(place)): reason for path, reason in corpus.skipped}
    assert sorted(reasons) == [
        "train/cats/session1_0.png", "train/dogs/session3_0.png", "train/dogs/session3_1.png",
        "val/dogs/session9_0.png",
    ]  # fmt: skip
    assert "sitting" in reasons["train/dogs/session3_1.png"] and "validation" in reasons["val/dogs/session9_0.png"]
    no_leak(corpus)


def test_a_split_that_nothing_was_wrong_with_stays_as_it_was(place: Path) -> None:
    root = folder(place, a=12)
    for sitting in range(6):
        paint(root / "b" / "photos" / f"session{sitting}_0.png", 300 + sitting)
    corpus = load(root)
    assert [Path(item.path).name for item in corpus.test] == ["005.png", "011.png", "session0_0.png"]
    assert [Path(item.path).name for item in corpus.val] == ["010.png", "006.png", "001.png", "session3_0.png"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("session2_07.jpg", "session2"),
        ("clip-3-0012.png", "clip-3"),
        ("2024-05-01_18.jpg", "2024-05-01"),
        ("IMG_20240501_1.jpg", "20240501"),
        ("Ada_Lovelace_0001.jpg", None),
        ("camilla_3.jpg", None),
    ],
)
def test_session_of_a_name(name: str, found: str | None) -> None:
    assert data.session(Path("ada") / name) == (found and f"ada/{found}")


def test_damaged_and_foreign_files_are_listed(place: Path) -> None:
    root = folder(place, a=4, b=4)
    whole = paint(root / "a" / "whole.jpg", 99, side=64).read_bytes()
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "cut.png").write_bytes((root / "a" / "000.png").read_bytes()[:-20])
    (root / "a" / "text.jpg").write_text("not a picture")
    (root / "a" / "empty.jpg").touch()
    (root / "a" / "notes.txt").write_text("notes")
    reasons = {Path(path).name: reason for path, reason in load(root).skipped}
    assert reasons == {
        "cut.jpg": "truncated JPEG",
        "cut.png": "truncated PNG",
        "text.jpg": "not a decodable picture",
        "empty.jpg": "not a decodable picture",
        "notes.txt": "not a picture file (.txt)",
    }


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_a_jpeg_ends_where_its_marker_stands(place: Path, flags: list[int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = cv2.imencode(".jpg", image, flags)[1].tobytes()
    path = place / "a.jpg"
    picture.check_picture(path, whole + bytes(200_000))  # a phone's motion photo: the clip follows the picture
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    picture.check_picture(path, whole[:2] + thumbnail + whole[2:])
    for cut in (whole[:-2], whole[: len(whole) // 2], whole[:2] + thumbnail + whole[2:-300]):
        with pytest.raises(MediaError, match="truncated JPEG"):
            picture.check_picture(path, cut)


def test_crops_of_another_template_are_refused(place: Path) -> None:
    for name in ("ada", "bob"):
        for number in range(3):
            paint(place / "crops" / name / f"{number}.png", ord(name[0]) + 1000 * number, side=112)
            paint(place / "others" / "eve" / f"{number}.png", 40 + number, side=150)
    wrong = Recipe(crop="dlib-150", size=150)
    with pytest.raises(
        UsageFault, match=r"6 of 6 pictures are no crops of dlib-150.*[0-2]\.png \(112 x 112\)"
    ) as caught:
        evaluate.load_data(place / "crops", wrong)
    assert "facecam crop --template dlib-150" in str(caught.value) and "\n" not in str(caught.value)
    right = Recipe(crop="arcface-112", size=112)
    assert len(evaluate.load_data(place / "crops", right).classes) == 2
    with pytest.raises(UsageFault, match="3 of 3 pictures are no crops of arcface-112"):
        evaluate.load_data(place / "crops", right.with_changes(others=str(place / "others")))
    assert len(evaluate.load_data(place / "crops", Recipe(size=64)).classes) == 2


def test_one_picture_in_two_classes_is_used_for_neither(place: Path) -> None:
    root = folder(place, a=5, b=5)
    (root / "b" / "stray.png").write_bytes((root / "a" / "000.png").read_bytes())
    corpus = load(root)
    assert sorted(Path(path).name for path, _ in corpus.skipped) == ["000.png", "stray.png"]
    assert sum(map(len, (corpus.train, corpus.val, corpus.test))) == 9


def test_a_class_of_which_nothing_is_usable_says_why(place: Path) -> None:
    folder(place, a=6, b=2)
    for path in (place / "b").iterdir():
        path.write_bytes(b"no picture")
    wanted = r"'b' has 0 usable .*needed \(2 left out, the first is .*b.000.png: not a decodable picture\); add some"
    with pytest.raises(UsageFault, match=wanted):
        data.load(place, val=0.2, test=0.2, seed=1)


def test_a_class_of_one_is_an_error(place: Path) -> None:
    with pytest.raises(UsageFault, match="class 'b' has 1 usable picture"):
        load(folder(place, a=5, b=1))


def test_small_classes_can_be_left_out(place: Path) -> None:
    folder(place, a=5, b=6, c=3)
    (place / "b" / "2024").mkdir()
    for path in sorted((place / "b").glob("*.png"))[:4]:
        path.rename(place / "b" / "2024" / path.name)
    corpus = load(place, min_images=5)
    assert corpus.classes == ("a", "b")
    assert corpus.skipped == ((str(place / "c"), "3 picture(s), fewer than min_images = 5: the class is left out"),)


@pytest.mark.parametrize("make", [lambda p: p / "absent", lambda p: p, lambda p: folder(p, only=4)])
def test_nothing_to_learn_from_is_an_error(place: Path, make: object) -> None:
    with pytest.raises(UsageFault, match="expected"):
        load(make(place))


def test_own_test_folder_is_kept_and_never_trained_on(place: Path) -> None:
    folder(place / "train", a=10, b=10)
    for name in ("a", "b"):
        for number in range(4):
            paint(place / "test" / name / f"{number}.png", 500 + number + (name == "b") * 50)
    twin = (place / "test" / "a" / "0.png").read_bytes()
    (place / "train" / "a" / "twin.png").write_bytes(twin)
    corpus = load(place, val=0.2)
    assert corpus.counts(corpus.test) == [4, 4]
    assert corpus.counts(corpus.val) == [2, 2]
    assert [Path(path).name for path, _ in corpus.skipped] == ["twin.png"]


@pytest.mark.parametrize("name", ["val", "validation", "Valid", "dev", "Test", "testing"])
def test_parts_go_by_several_names(place: Path, name: str) -> None:
    folder(place / "Train", cats=8, dogs=8)
    folder(place / name, 50, cats=3, dogs=3)
    (place / "Train" / ".ipynb_checkpoints").mkdir()
    corpus = load(place)
    assert corpus.classes == ("cats", "dogs") and not corpus.skipped
    own = corpus.test if name.lower().startswith("test") else corpus.val
    assert corpus.counts(own) == [3, 3] and len(corpus.train) < 16


@pytest.mark.parametrize("names", [("train",), ("val", "test"), ("TRAIN", "flowers"), ("Validation", "flowers")])
def test_a_part_is_not_taken_for_a_class(place: Path, names: tuple[str, ...]) -> None:
    for name in names:
        folder(place / name, cats=4, dogs=4)
    with pytest.raises(UsageFault, match=f"{sorted(names)[0]} looks like a part") as caught:
        load(place)
    assert "\n" not in str(caught.value)


def test_parts_without_classes_and_doubled_parts_are_refused(place: Path) -> None:
    folder(place / "loose", train=4, test=4)
    with pytest.raises(UsageFault, match="looks like a part"):
        load(place / "loose")
    for name in ("train", "val", "validation"):
        folder(place / "twice" / name, cats=4, dogs=4)
    with pytest.raises(UsageFault, match="val and validation"):
        load(place / "twice")


def test_a_class_may_be_named_like_a_part(place: Path) -> None:
    assert load(folder(place, bus=4, train=4)).classes == ("bus", "train")


def test_a_class_that_training_lacks_is_named(place: Path) -> None:
    folder(place / "train", cats=8, dogs=8)
    folder(place / "test", 50, birds=3, cats=3, dogs=3)
    corpus = load(place)
    assert corpus.skipped == ((str(place / "test" / "birds"), "no such class in train: its 3 picture(s) are not used"),)


def test_split_by_people_keeps_a_person_in_one_part(place: Path) -> None:
    root = folder(place, ada=3, bob=3, eve=3, zoe=2)
    people = {"train": ["ada", "zoe"], "calibrate": ["bob"], "test": ["eve"]}
    corpus = load(root, people=people)
    assert [corpus.counts(part) for part in (corpus.train, corpus.val, corpus.test)] == [
        [3, 0, 0, 2], [0, 3, 0, 0], [0, 0, 3, 0],
    ]  # fmt: skip
    with pytest.raises(UsageFault, match="lacks 1 people"):
        load(root, people={**people, "test": ["nobody"]})
    with pytest.raises(UsageFault, match="in two parts"):
        load(root, people={**people, "test": ["ada"]})


def test_background_people_follow_the_classes(place: Path) -> None:
    known = load(folder(place / "known", ada=5, bob=5))
    others = folder(place / "others", 100, ada=2, max=2, zoe=1)
    (others / "zoe" / "again.png").write_bytes((place / "known" / "bob" / "000.png").read_bytes())
    corpus = data.with_background(known, others)
    assert corpus.classes == ("ada", "bob") and corpus.outputs == 4
    assert {item.label for item in corpus.background} == {2, 3}
    assert not {item.digest for item in corpus.background} & {item.digest for item in known.train + known.test}
    assert corpus.digest != known.digest
    with pytest.raises(UsageFault, match="--others"):
        data.with_background(known, place / "absent")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=3), st.floats(0, 0.6), st.integers(0, 9))
def test_take_loses_nothing_and_breaks_no_group(rows: list[tuple[int, int]], share: float, seed: int) -> None:
    items = [data.Item(str(n), label, str(n), f"{label}-{group}") for n, (label, group) in enumerate(rows)]
    rest, taken = data.take(items, share, seed)
    assert sorted(item.path for item in rest + taken) == sorted(item.path for item in items)
    assert not {item.group for item in rest} & {item.group for item in taken}
    assert {item.label for item in rest} == {item.label for item in items}


def idx_bytes(array: np.ndarray) -> bytes:
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(root: Path) -> Path:
    rng = np.random.default_rng(0)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        labels = (np.arange(count) % 2).astype(np.uint8)
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(idx_bytes(labels))
    return root


def test_idx_files_are_found_and_split(place: Path) -> None:
    corpus = load(write_mnist(place), val=0.25)
    assert corpus.classes == ("0", "1")
    assert [len(part) for part in (corpus.train, corpus.val, corpus.test)] == [30, 10, 20]
    assert corpus.train[0].pixels is not None and corpus.train[0].pixels.shape == (28, 28)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x00\x0d\x01", b"\x00\x00\x08\x01\x00\x00\x00\x09123", b"\x00\x00\x08\x03\x00\x00", b"P5 2 2 255 abcd"],
)
def test_bad_idx_files_are_refused(place: Path, content: bytes) -> None:
    path = place / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"IDX|header"):
        idx.read_idx(path)


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), (40, 30, 3), (12, 12)])
def test_square_gives_rgb_of_the_asked_size(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 77, np.uint8)
    square = picture.square(image, 12)
    assert square.shape == (12, 12, 3) and square.dtype == np.uint8 and (square == 77).all()


def test_decode_gives_rgb(place: Path) -> None:
    path = place / "red.png"
    cv2.imwrite(str(path), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert picture.decode(path.read_bytes())[0, 0].tolist() == [255, 0, 0]
