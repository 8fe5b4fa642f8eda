"""Defaults, ranges, and which source of a setting wins."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.cli import invoke
from facecam.cli.options import settings as options
from facecam.errors import UsageFault
from facecam.settings import Settings, load_config, min_face_pixels


@pytest.mark.parametrize(
    ("spec", "height", "pixels"), [("40", 360, 40), ("5%", 360, 18), ("10 %", 1080, 108), ("1%", 360, 10)]
)
def test_min_face(spec: str, height: int, pixels: float) -> None:
    assert min_face_pixels(spec.replace(" ", ""), height) == pytest.approx(pixels)


@given(st.text(max_size=12))
def test_min_face_is_a_number_in_range_or_refused(text: str) -> None:
    try:
        value = min_face_pixels(text, 1000)
    except UsageFault:
        return
    assert 10 <= value <= 2000


def chosen(monkeypatch: pytest.MonkeyPatch, args: list[str]) -> Settings:
    """What a command with all the setting options receives."""
    got: list[Settings] = []

    @click.command()
    @options("device", "min_face", "threshold", "detect_every", "pack", "threads")
    def probe(settings: Settings) -> None:
        got.append(settings)

    probe.main(args, standalone_mode=False, default_map=load_config())
    return got[0]


def test_command_line_beats_environment_beats_config_beats_default(
    monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    assert chosen(monkeypatch, []) == Settings()
    (own_home / "config.toml").write_text("threshold = 0.91\nmin_face = 55\n")
    assert chosen(monkeypatch, []).threshold == 0.91
    assert chosen(monkeypatch, []).min_face == "55"
    monkeypatch.setenv("FACECAM_THRESHOLD", "0.92")
    assert chosen(monkeypatch, []).threshold == 0.92
    assert chosen(monkeypatch, ["--threshold", "0.93"]).threshold == 0.93


@pytest.mark.parametrize(
    ("text", "said"),
    [("threshold = ", "TOML"), ("treshold = 0.9", "treshold"), ("\xff\xfe", ""), ("threshold = 7", "threshold")],
)
def test_a_bad_config_is_one_line(text: str, said: str, own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_home / "config.toml").write_bytes(text.encode("latin-1"))
    assert invoke(["label", "x.mp4"]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_a_bad_config_does_not_keep_help_away(own_home: Path) -> None:
    (own_home / "config.toml").write_text("threshold = ")
    assert invoke(["--help"]) == 0
    assert invoke(["--version"]) == 0
