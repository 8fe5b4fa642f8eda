"""Two results side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facecam.errors import SourceError, UsageFault
from facecam.evaluate.compare import Row, compare, read_result

#: More digits than Python takes for an int of a text.
NUMBER = "9" * 5_000


def result(**more: Any) -> dict[str, Any]:
    return {
        "schema": "facecam.eval/pairs/1",
        "models": {"embedder": {"name": "e", "sha256": "aa"}},
        "data": {"images": 10},
        "accuracy": 0.98,
        "mirror": {"auc": 0.9, "roc": {"far": [0.1]}},
        "folds": [1.0],
    } | more


def test_figures_that_changed_and_those_that_only_one_has() -> None:
    rows, differences = compare(result(gone=1), result(accuracy=0.99, new=2))
    assert differences == []
    assert rows == [
        Row("accuracy", 0.98, 0.99),
        Row("mirror.auc", 0.9, 0.9),
        Row("gone", 1.0, None),
        Row("new", None, 2.0),
    ]
    assert rows[0].change == pytest.approx(0.01) and rows[1].change == 0 and rows[2].change is None


def test_other_models_and_other_data_are_named() -> None:
    other = result(models={"embedder": {"name": "e", "sha256": "b" * 64}}, data={"images": 9, "people": 3})
    lines = compare(result(), other)[1]
    assert any("images is 10 in the first, 9 in the second" in line for line in lines)
    assert any("people is absent in the first" in line for line in lines)
    assert any("embedder sha256 is aa in the first, bbbbbbbbbbbb... in the second" in line for line in lines)


def test_different_tests_are_not_compared() -> None:
    with pytest.raises(UsageFault, match="different tests"):
        compare(result(), result(schema="facecam.eval/openset/1"))


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"schema": "facecam.card/1"}', '{"accuracy": 1}', "[" * 100_000, "9" * 5_000]
)
def test_a_file_that_is_no_result(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageFault):
        read_result(path)


def test_a_number_beyond_all_is_one_line() -> None:
    with pytest.raises(UsageFault, match=r"mirror\.auc is a number of 400 digits"):
        compare(result(), result(mirror={"auc": int("9" * 400)}))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_result(tmp_path / "absent.json")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(result()))
    assert read_result(path) == result()
