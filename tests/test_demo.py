"""The demo: the main job on two portraits, through the same path as label."""

from __future__ import annotations

from pathlib import Path

import pytest

from facecam.cli import invoke
from facecam.demo import KNOWN, package_file
from facecam.errors import DependencyMissing
from facecam.people.gallery import Gallery


@pytest.mark.slow
def test_the_demo_names_one_and_not_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["demo", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = [line.split("s  ")[-1].strip() for line in out.splitlines() if " s to " in line]
    assert rows.count(KNOWN) >= 2, "she comes, leaves and returns"
    assert "unknown" in rows and set(rows) == {KNOWN, "unknown"}
    for name in ("demo.mp4", "demo.labelled.mp4", "demo.sightings.jsonl", "demo.timeline.csv"):
        assert (tmp_path / name).stat().st_size > 0 and name in out
    with Gallery.open(create=False) as gallery:
        assert gallery.people() == [], "the user's own gallery is not touched"


def test_a_missing_picture_names_the_extra() -> None:
    with pytest.raises(DependencyMissing, match=r"facecam\[demo\]"):
        package_file("no_such_package", "x.png")
