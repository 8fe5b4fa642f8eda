"""Processes that do the work: how they start, and that they end, whatever happens."""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest

from facecam.archive.crew import Processes
from facecam.archive.process import no_interrupt
from facecam.cli import invoke
from tests.support import HOPPER

if os.name == "nt":
    pytest.skip("signals", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent


class Busy:
    """An outfit and its worker, at work for a minute without a word; the file of the task is there meanwhile."""

    def worker(self) -> Any:
        return self

    def do(self, task: Path, tick: Callable[[int], None]) -> str:
        task.touch()
        try:
            time.sleep(60)
        finally:
            task.unlink()
        return "done"


class Slow(Busy):
    """At work for a second, with a word now and then."""

    def do(self, task: Path, tick: Callable[[int], None]) -> str:
        task.touch()
        try:
            for frames in range(10):
                time.sleep(0.1)
                tick(frames)
        finally:
            task.unlink()
        return "done"


class Deaf(Busy):
    """One that swallows the exit, as an extension module does that is being imported."""

    def do(self, task: Path, tick: Callable[[int], None]) -> str:
        try:
            return super().do(task, tick)
        except SystemExit:
            return "never mind"


class DeafAtFirst(Busy):
    """One that swallows it while its models are loaded."""

    def __init__(self, loading: Path) -> None:
        self.loading = loading

    def worker(self) -> Any:
        self.loading.touch()
        try:
            time.sleep(60)
        except SystemExit:
            pass
        return self


class Interrupted(Busy):
    """One that meets a Ctrl-C before any line of its process's own has run."""

    def __reduce__(self) -> Any:
        return _interrupted, ()

    def do(self, task: Path, tick: Callable[[int], None]) -> str:
        return "done"


def _interrupted() -> Interrupted:
    os.kill(os.getpid(), signal.SIGINT)
    return Interrupted()


def ended(outfit: Any, task: Path, begun: Path) -> int:
    """The exit code of a process that is ended when the file ``begun`` is there."""
    workers = Processes(outfit, 1)
    try:
        workers.submit("a", task)  # type: ignore[arg-type]
        process = workers._hands[0].process
        while not begun.exists():
            time.sleep(0.01)
    finally:
        workers.close()
    return int(process.exitcode)


def test_a_process_ends_though_its_exit_was_swallowed(tmp_path: Path) -> None:
    task, loading = tmp_path / "half", tmp_path / "loading"
    assert ended(Deaf(), task, task) == 0 and not task.exists(), "it was not killed after a while"
    assert ended(DeafAtFirst(loading), task, loading) == -signal.SIGTERM


def test_ctrl_c_does_not_reach_a_process_that_starts(tmp_path: Path) -> None:
    outfit: Any = Interrupted()
    workers = Processes(outfit, 1)
    try:
        workers.submit("a", tmp_path)  # type: ignore[arg-type]
        assert workers.wait() == ("a", "done")
    finally:
        workers.close()


def test_ctrl_c_comes_when_the_process_is_started() -> None:
    """Also where another thread takes the signal, as those of ONNX Runtime may."""
    over, reached = threading.Event(), False
    threading.Thread(target=over.wait, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt), no_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            reached = True
        assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        over.set()


def test_a_process_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    task = tmp_path / "half"
    code = (
        "import sys; from pathlib import Path; from facecam.archive.crew import Processes; from tests.test_crew import"
        " Busy; crew = Processes(Busy(), 1); crew.submit('a', Path(sys.argv[1])); crew.wait()"
    )
    command = subprocess.Popen([sys.executable, "-c", code, str(task)], cwd=ROOT, env=os.environ | {"PYTHONPATH": "."})
    while not task.exists() and command.poll() is None:
        time.sleep(0.01)
    command.kill()
    command.wait()
    deadline = time.monotonic() + 30
    while task.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not task.exists()


def test_a_process_that_cannot_be_started_is_a_line(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that is killed for its memory before it has read its outfit: no reader of what is printed is gone."""

    def start(process: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start)
    assert invoke(["label", str(HOPPER), "-o", str(tmp_path), "--workers", "1", "--progress", "none"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert "a worker process cannot be started (Broken pipe)" in told[-1]


def test_processes_tell_how_far_they_are_and_clean_up_when_they_are_ended(tmp_path: Path) -> None:
    told: list[tuple[Hashable, int]] = []
    outfit: Any = Slow()
    workers = Processes(outfit, 1, lambda key, frames: told.append((key, frames)))
    try:
        task: Any = tmp_path / "half"
        workers.submit("a", task)
        assert workers.wait() == ("a", "done")
        assert 2 <= len(told) < 10 and told == sorted(told) and {key for key, _ in told} == {"a"}
        workers.submit("b", task)
        while not task.exists():
            time.sleep(0.01)
    finally:
        workers.close()
    assert not task.exists()
