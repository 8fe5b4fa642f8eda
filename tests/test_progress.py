"""Progress: what is counted, how often it is told, on a terminal and to programs."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from facecam.cli import progress
from facecam.cli.progress import AUTO, JSON, JSON_EVERY, NONE, PLAIN_EVERY, Run, duration, line, run_progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_files_frames_rates_and_the_time_left() -> None:
    clock = Clock()
    run = Run(4, clock)
    assert run.state()["eta_seconds"] is None and run.state()["fps"] is None
    first, second = run.file("a.mp4"), run.file("b.mp4")
    first(50, 100)
    second(10, None)
    clock.now += 5
    state = run.state()
    assert (state["frames"], state["fps"]) == (60, 12.0)
    assert state["eta_seconds"] == 35.0, "half a file in 5 s: 3.5 files are left"
    assert state["current"] == [
        {"file": "a.mp4", "frame": 50, "frames": 100},
        {"file": "b.mp4", "frame": 10, "frames": None},
    ]
    first(100, 100)
    run.finished("a.mp4", 3, {"Ada": 4.5, "Bo": 1.0})
    run.gave_up("b.mp4")
    run.skipped("c.mp4")
    run.finished("d.jpg", 1, {"Ada": 1})
    state = run.state()
    assert (state["done"], state["failed"], state["skipped"], state["files"]) == (2, 1, 1, 4)
    assert (state["faces"], state["people"], state["current"]) == (4, {"Ada": 2, "Bo": 1}, [])
    assert state["frames"] == 110 and state["eta_seconds"] == 0.0


def test_two_files_of_one_name_are_two() -> None:
    run = Run(2, Clock())
    first, second = run.file("clip.mp4"), run.file("clip.mp4")
    first(10, 10)
    second(4, 10)
    run.finished("clip.mp4")
    first(10, 10)  # once more, after its end
    assert run.state()["current"] == [{"file": "clip.mp4", "frame": 4, "frames": 10}]
    run.skipped("clip.mp4")
    assert run.state()["current"] == [] and run.state()["frames"] == 14


def test_json_lines_are_throttled_and_end_with_the_last_word() -> None:
    clock, stream = Clock(), io.StringIO()
    run = progress._JsonRun(1, stream, clock)
    update = run.file("h\u00e9\udcff.mp4")
    for k in range(1000):
        clock.now += 0.01
        update(k, 1000)
    run.finished("h\u00e9\udcff.mp4", 2, {"Zoë": 1.0})
    run.close()
    told = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert 10 / JSON_EVERY - 2 <= len(told) <= 10 / JSON_EVERY + 3
    assert [entry["type"] for entry in told] == ["progress"] * (len(told) - 1) + ["end"]
    assert {entry["schema"] for entry in told} == {"facecam.progress/1"}
    assert told[-1]["done"] == 1 and told[-1]["people"] == {"Zoë": 1}
    assert stream.getvalue().isascii(), "any terminal, any file name"
    assert [entry["frames"] for entry in told] == sorted(entry["frames"] for entry in told)


def test_a_run_that_is_broken_off_says_its_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), run_progress(JSON, 3) as run:
        run.file("a.mp4")
        raise KeyboardInterrupt
    told = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert told[-1]["type"] == "end" and told[-1]["done"] == 0


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    run = progress._PlainRun(10, clock)
    update = run.file("a\x1b[31m.mp4")
    for k in range(251):
        clock.now += PLAIN_EVERY / 100
        update(k, 1000)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("0/10 files, 10 fps") and told[0].endswith("a\\x1b[31m.mp4")


def test_nothing_is_said_when_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with run_progress(NONE, 1) as run:
        run.file("a.mp4")(1, 1)
        run.finished("a.mp4")
    with run_progress(AUTO, 1) as run:  # no terminal, and quick
        run.file("a.mp4")(1, 1)
        run.finished("a.mp4")
    assert capsys.readouterr() == ("", "")


def test_one_line_tells_what_matters() -> None:
    state: dict[str, Any] = {
        "files": 40, "done": 11, "failed": 1, "skipped": 3, "fps": 118.4, "eta_seconds": 3725, "faces": 1, "seconds": 9,
        "people": {"Ada": 7, "Bo": 2, "Cy": 1, "Di": 1, "Ed": 1},
        "current": [{"file": "x.mp4", "frame": 1, "frames": 2}],
    }  # fmt: skip
    expected = "15/40 files, 1 failed, 118 fps, 62:05 min left, 1 face, Ada, Bo, Cy, Di +1, x.mp4"
    assert line(state) == expected
    assert [duration(s) for s in (3, 99.4, 100, 5999, 6000, 90061)] == [
        "3 s", "99 s", "1:40 min", "99:59 min", "1:40 h", "25:01 h",
    ]  # fmt: skip


def test_a_terminal_shows_a_bar_and_is_left_clean() -> None:
    code = (
        "import time\n"
        "from facecam.cli.progress import run_progress, AUTO\n"
        "with run_progress(AUTO, 2) as run:\n"
        "    update = run.file('one [b].mp4')\n"
        "    for k in range(30):\n"
        "        time.sleep(0.02)\n"
        "        update(k, 60)\n"
        "    print('a result')\n"
        "    run.finished('one [b].mp4', 2, {'[red]Ada': 1})\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    done = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    told = b""
    try:
        while chunk := os.read(ours, 65536):
            told += chunk
    except OSError:  # Linux: the other side is closed
        pass
    os.close(ours)
    result, _ = done.communicate(timeout=60)
    assert done.returncode == 0 and result == b"a result\n", "what is piped on stays out of the display"
    assert b"0/2 files" in told and b"one [b].mp4" in told, "markup in a file name is text"
    assert b"\x1b[?25h" in told, "the cursor is shown again"
