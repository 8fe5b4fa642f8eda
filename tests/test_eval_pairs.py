"""The pairs file of LFW: read, refused, and what a pair without a face costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facecam.errors import FacecamError, SourceError, UsageFault
from facecam.evaluate.faces import Embedded
from facecam.evaluate.pairs import Pair, figures, picture_of, read_pairs


def written(folder: Path, text: str) -> Path:
    path = folder / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_folds_as_lfw_has_them(tmp_path: Path) -> None:
    text = "2\t1\nAda\t1\t2\nAda\t1\tGrace\t3\nJosé Díaz\t1\t4\nGrace\t2\tJosé Díaz\t10\n"
    pairs = read_pairs(written(tmp_path, text))
    assert [(p.first, p.second, p.fold, p.same) for p in pairs] == [
        (("Ada", 1), ("Ada", 2), 0, True),
        (("Ada", 1), ("Grace", 3), 0, False),
        (("José Díaz", 1), ("José Díaz", 4), 1, True),
        (("Grace", 2), ("José Díaz", 10), 1, False),
    ]


def test_one_fold_is_dealt_into_ten_with_both_kinds_in_each(tmp_path: Path) -> None:
    rows = ["20", *(f"A{i} 1 2" for i in range(20)), *(f"A{i} 1 B{i} 1" for i in range(20))]
    pairs = read_pairs(written(tmp_path, "\n".join(rows)))
    for fold in range(10):
        assert sorted(p.same for p in pairs if p.fold == fold) == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "first line"),
        ("Ada\t1\t2\n", "first line"),
        ("2\t1\nAda\t1\t2\n", "announces"),
        ("2\t1\nA\t1\t2\nA\t1\tB\t1\nA\t1\nA\t1\tC\t1\n", "line 4"),
        ("2\t1\nA\t1\tx\nA\t1\tB\t1\nA\t1\t3\nA\t1\tC\t1\n", "line 2"),
        ("1\nA 1 2\nA 1 B 1\n", "too few"),
        ("0\t0\n", "announces"),
    ],
)
def test_a_faulty_file_is_told_in_a_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageFault) as caught:
        read_pairs(written(tmp_path, text))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        read_pairs(tmp_path / "absent.txt")


def test_pictures_of_any_suffix(tmp_path: Path) -> None:
    (tmp_path / "Ada").mkdir()
    (tmp_path / "Ada" / "Ada_0002.png").touch()
    assert picture_of(tmp_path, "Ada", 2).name == "Ada_0002.png"
    assert picture_of(tmp_path, "Ada", 3).name == "Ada_0003.jpg"
    (tmp_path / "Ada" / "Ada_0002.jpg").touch()
    assert picture_of(tmp_path, "Ada", 2).name == "Ada_0002.jpg"


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\\b", "a\0"])
def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageFault):
        picture_of(tmp_path, name, 1)


def people(found: list[bool]) -> tuple[Embedded, np.ndarray, list[Pair]]:
    """Two pictures of each of 20 people, far apart; genuine pairs, and impostor pairs with the next person."""
    rng = np.random.default_rng(0)
    base = np.repeat(rng.normal(size=(20, 64)), 2, axis=0)
    vectors = (base + 0.1 * rng.normal(size=base.shape)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    seen = np.array(found + [True] * (40 - len(found)))
    vectors[~seen] = 0
    embedded = Embedded(tuple(Path(str(i)) for i in range(40)), vectors, vectors, seen)
    genuine = [(2 * i, 2 * i + 1, i % 10) for i in range(20)]
    impostor = [(2 * i, (2 * i + 2) % 40, i % 10) for i in range(20)]
    pairs = [Pair((f"p{a // 2}", a), (f"p{b // 2}", b), fold) for a, b, fold in genuine + impostor]
    return embedded, np.array([(a, b) for a, b, _ in genuine + impostor]), pairs


def test_figures_of_both_kinds_and_those_on_top_are_the_mirror_averaged() -> None:
    result = figures(*people([]))
    assert result["accuracy"] == 1.0 and result["failed"] == 0 and result["pairs"] == 40
    for name in ("accuracy", "std", "tar_at_far", "auc", "eer", "threshold"):
        assert result[name] == result["mirror"][name]
    assert set(result["tar_at_far"]) == {"0.1", "0.01", "0.001", "0.0001"}
    assert sum(result["plain"]["scores"]["genuine"]) == 20


def test_a_picture_without_a_face_costs_all_its_pairs() -> None:
    # Picture 1 is in one genuine pair; picture 2 in one genuine and in two impostor pairs.
    result = figures(*people([True, False, False]))
    assert result["failed"] == 4
    assert result["accuracy"] == pytest.approx(1 - 4 / 40)
    assert result["pairs"] == 40, "failed pairs are not dropped"


def test_nothing_to_compare_is_an_error_of_the_input() -> None:
    with pytest.raises(FacecamError, match="too few"):
        figures(*people([False] * 40))
