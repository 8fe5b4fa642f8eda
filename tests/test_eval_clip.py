"""A labelled clip against the truth: frames right, wrong, missed; names late or false; the truth file itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.errors import FacecamError, SourceError, UsageFault
from facecam.evaluate.clip import Seen, score
from facecam.evaluate.truth import Appearance, read_truth

FPS = 10.0


def labelled(*tracks: str, live: int = 0) -> list[Seen]:
    """Frames from one string a track: a letter is a name, a dot an unknown face, a space no face there.

    Args:
        live: frames that a name comes later in the live view.
    """
    frames = []
    for i in range(len(tracks[0])):
        faces = tuple((n + 1, None if t[i] == "." else t[i]) for n, t in enumerate(tracks) if t[i] != " ")
        shown = frozenset(t[i] for t in tracks if t[i] not in ". " and i >= live and t[i - live] == t[i])
        frames.append(Seen(i, i / FPS, faces, shown))
    return frames


def there(name: str | None, start: int, end: int, required: bool = True) -> Appearance:
    return Appearance(start, end, name, required, frames=True)


def test_a_clip_labelled_without_a_fault() -> None:
    result = score(labelled("  AAAAAAAA", live=2), [there("A", 2, 9)], {"A", "B"})
    person = result["people"]["A"]
    assert (person["precision"], person["recall"], person["f1"]) == (1.0, 1.0, 1.0)
    assert result["false_names"] == 0 and result["false_names_per_minute"] == 0
    assert result["identity_switches"] == 0
    assert person["time_to_name"] == pytest.approx(0.2)
    assert result["faces"]["recall"] == result["faces"]["precision"] == 1.0
    assert "B" not in result["people"], "nobody claims anything of B"


def test_missed_and_wrong_frames_are_counted() -> None:
    # A is there all the time: named on 6 of 10 frames, taken for B on 2, unknown on 2.
    result = score(labelled("..AAAAAABB"), [there("A", 0, 9)], {"A", "B"})
    a, b = result["people"]["A"], result["people"]["B"]
    assert (a["precision"], a["recall"], a["f1"]) == (1.0, 0.6, 0.75)
    assert (b["precision"], b["recall"], b["named_wrong"]) == (0.0, None, 2)
    assert result["false_names"] == 1 and result["false_name_frames"] == 2
    assert result["false_names_per_minute"] == pytest.approx(60.0), "one in a clip of a second"
    assert result["false_name_list"] == [{"name": "B", "track": 1, "start": 0.8, "frame": 8, "frames": 2}]


def test_a_false_name_that_comes_back_is_another_one() -> None:
    result = score(labelled("BB..BBB..."), [there("A", 0, 9)], {"A", "B"})
    assert [entry["frames"] for entry in result["false_name_list"]] == [2, 3]


def test_a_name_on_two_faces_of_a_frame_is_false_on_one() -> None:
    result = score(labelled("AAAAA", "  AA "), [there("A", 0, 4)], {"A"})
    assert result["people"]["A"]["named_right"] == 5
    assert result["false_name_frames"] == 2


def test_a_stranger_and_somebody_not_enrolled_may_not_be_named() -> None:
    truth = [there(None, 0, 4), there("Z", 5, 9)]
    result = score(labelled("AAAAA....."), truth, {"A"})
    assert result["false_name_frames"] == 5
    assert list(result["people"]) == ["A"]
    assert result["faces"]["expected"] == result["faces"]["found"] == 10


def test_what_is_not_required_is_neither_asked_for_nor_wrong() -> None:
    result = score(labelled("AAA..     "), [there("A", 0, 9, required=False)], {"A"})
    assert result["false_names"] == 0
    assert result["people"]["A"]["f1"] is None and result["recall"] is None
    assert result["faces"]["expected"] == 0 and result["faces"]["precision"] == 1.0


def test_a_change_of_track_is_an_identity_switch_but_a_new_appearance_is_none() -> None:
    tracks = labelled("AAA       ", "   AA     ", "      AAAA")
    assert score(tracks, [there("A", 0, 4), there("A", 6, 9)], {"A"})["identity_switches"] == 1
    assert score(tracks, [there("A", 0, 9)], {"A"})["identity_switches"] == 2


def test_time_to_the_first_name_counts_from_the_first_sight_of_the_face() -> None:
    result = score(labelled("   AAAAAAA", live=4), [there("A", 0, 9)], {"A"})
    (appearance,) = result["people"]["A"]["appearances"]
    assert (appearance["first_face"], appearance["first_name"], appearance["face_to_name"]) == (0.3, 0.7, 0.4)


def test_a_face_that_never_got_a_name_has_no_time_to_it() -> None:
    result = score(labelled(".........."), [there("A", 0, 9)], {"A"})
    assert result["time_to_name"] is None and result["people"]["A"]["recall"] == 0.0


def test_seconds_and_frames_say_the_same() -> None:
    seen = labelled("..AAAAAABB")
    by_frame = score(seen, [there("A", 2, 6)], {"A", "B"})
    by_time = score(seen, [Appearance(0.2, 0.7, "A")], {"A", "B"})
    assert by_frame["people"] == by_time["people"]


names = st.sampled_from(". AB")


@given(st.lists(st.tuples(names, names), min_size=1, max_size=20), st.integers(0, 19), st.integers(0, 19))
def test_counts_add_up(frames: list[tuple[str, str]], start: int, end: int) -> None:
    first, second = ("".join(letters) for letters in zip(*frames))
    truth = [there("A", min(start, end), max(start, end))]
    result = score(labelled(first, second), truth, {"A", "B"})
    named = sum(letter in "AB" for pair in frames for letter in pair)
    rows = result["people"].values()
    assert sum(row["named_right"] + row["named_wrong"] for row in rows) == named == result["faces"]["named"]
    assert sum(entry["frames"] for entry in result["false_name_list"]) == sum(row["named_wrong"] for row in rows)
    assert 0 <= (result["faces"]["precision"] or 0) <= 1


# --- the truth file --------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "truth.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_truth_in_seconds(tmp_path: Path) -> None:
    text = "# a comment\nstart,end,name\n0,2.5,Ada\n\n2.5,4,\n3,4,unknown\n"
    first, second, third = read_truth(written(tmp_path, text))
    assert first == Appearance(0.0, 2.5, "Ada")
    assert second == Appearance(2.5, 4.0, None) and third.name is None
    assert first.covers(999, 2.49) and not first.covers(0, 2.5), "the end is not included"


def test_a_truth_in_frames(tmp_path: Path) -> None:
    (row,) = read_truth(written(tmp_path, "name,end_frame,start_frame,required\nZoë,20,10,no\n"))
    assert row == Appearance(10, 20, "Zoë", required=False, frames=True)
    assert row.covers(20, 0.0) and not row.covers(21, 0.0)
    (asked,) = read_truth(written(tmp_path, "start,end,name\n10,20,Ada\n"), frames=True)
    assert asked.frames


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", UsageFault, "empty"),
        ("start,end,name\n", UsageFault, "names nobody"),
        ("begin,end,name\n1,2,Ada\n", UsageFault, "'start' is missing"),
        ("start,end,name\n1,x,Ada\n", UsageFault, "line 2"),
        ("start,end,name\n# note\n\n3,2,Ada\n", UsageFault, "line 4"),
        ("start,end,name\n1\n", UsageFault, "line 2"),
        ("start,end,name\nnan,2,Ada\n", UsageFault, "line 2"),
        ("start_frame,end_frame,name\n1.5,2,Ada\n", UsageFault, "no stretch"),
        ("start,end,name,required\n1,2,Ada,maybe\n", UsageFault, "yes or no"),
        ("start,end,name\n1,2,A\x07da\n", UsageFault, "U+0007"),
    ],
)
def test_a_faulty_truth_is_told_in_a_line(tmp_path: Path, text: str, error: type[FacecamError], says: str) -> None:
    with pytest.raises(error) as caught:
        read_truth(written(tmp_path, text))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_truth_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="cannot be read"):
        read_truth(tmp_path / "truth.csv")
