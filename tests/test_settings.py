"""Defaults, ranges, and which source of a setting wins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.cli import facecam, invoke
from facecam.cli.options import FiniteRange
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


@pytest.mark.parametrize(
    "command",
    [
        ["bench", "--seconds"],
        ["run", "--max-seconds"],
        ["run", "--fps"],
        ["run", "--stall"],
        ["run", "--threshold"],
        ["run", "--max-false-names"],
        ["run", "--min-face"],
        ["label", "x.mp4", "--segment"],
        ["label", "x.mp4", "--start"],
        ["label", "x.mp4", "--end"],
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_refused(command: list[str], number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is less than nan, and nothing more: it is in no range, and comparisons alone let it into every one."""
    assert invoke([*command, number]) == 2
    error = capsys.readouterr().err
    assert command[-1] in error and number in error and "Traceback" not in error


def test_a_bad_value_is_told_by_where_it_stands(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--headless", "--source", "x.mp4"]
    (own_home / "config.toml").write_text("threshold = 2\n")
    assert invoke(command) == 2 and "'--threshold' (from config.toml): 2" in capsys.readouterr().err
    monkeypatch.setenv("FACECAM_THRESHOLD", "abc")
    assert invoke(command) == 2 and "'--threshold' (from FACECAM_THRESHOLD): 'abc'" in capsys.readouterr().err
    assert invoke([*command, "--threshold", "7"]) == 2 and "'--threshold': 7" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_what_is_no_number_is_refused_in_config_and_environment(
    number: str, own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_home / "config.toml").write_text(f"threshold = {number}\n")
    assert invoke(["run", "--headless", "--source", "x.mp4"]) == 2
    assert "threshold" in capsys.readouterr().err
    (own_home / "config.toml").unlink()
    monkeypatch.setenv("FACECAM_THRESHOLD", number)
    assert invoke(["run", "--headless", "--source", "x.mp4"]) == 2
    assert "threshold" in capsys.readouterr().err


def kinds(command: click.Command) -> Iterator[tuple[str | None, click.ParamType]]:
    """Names and types of all parameters of a command and of those below it."""
    yield from ((parameter.name, parameter.type) for parameter in command.params)
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from kinds(inner)


def test_every_number_of_the_command_line_must_be_one() -> None:
    numbers = [(name, kind) for name, kind in kinds(facecam) if isinstance(kind, click.types.FloatParamType)]
    assert len(numbers) > 5
    assert [name for name, kind in numbers if not isinstance(kind, FiniteRange)] == []


def test_a_bad_config_does_not_keep_help_away(own_home: Path) -> None:
    (own_home / "config.toml").write_text("threshold = ")
    assert invoke(["--help"]) == 0
    assert invoke(["--version"]) == 0
