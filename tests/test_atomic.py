"""What a killed writer leaves beside outputs is taken away by the next one; what a living one writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facecam.video import atomic
from facecam.video.atomic import PREFIX, SUFFIX, Pending, atomic_bytes, atomic_text, sweep

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no advisory locks")

_WRITER = """
import sys, time
from facecam.video.atomic import Pending
pending = Pending(sys.argv[1])
pending.temp.write_bytes(b"a face")
print("writing", flush=True)
time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of writing."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "theirs.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"writing\n"
        yield process
        process.kill()


def left(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))


def test_a_killed_writer_s_file_goes_and_a_living_one_s_stays(
    tmp_path: Path, writer: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for alive in (True, False):
        if not alive:
            writer.kill()
            writer.wait()
        monkeypatch.setattr(atomic, "_swept", set())  # as in a process that has not written there yet
        before = left(tmp_path)
        assert len(before) == 1
        atomic_bytes(tmp_path / f"mine {alive}", b"x")
        assert left(tmp_path) == (before if alive else [])


def test_what_this_process_writes_stays_too(tmp_path: Path) -> None:
    pending = Pending(tmp_path / "a.csv")
    with atomic_text(tmp_path / "b.csv") as file:
        file.write("b")
        assert sweep(tmp_path) == 0
    assert len(left(tmp_path)) == 1 and (tmp_path / "b.csv").read_text() == "b"
    pending.temp.write_bytes(b"a")
    pending.commit()
    assert not left(tmp_path) and (tmp_path / "a.csv").read_bytes() == b"a"


def test_only_own_plain_files_are_taken(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / f"{PREFIX}link{SUFFIX}").symlink_to("precious")
    (tmp_path / f"{PREFIX}folder{SUFFIX}").mkdir()
    (tmp_path / f"x{PREFIX}x{SUFFIX}").write_text("x")
    (tmp_path / f"{PREFIX}dead{SUFFIX}").write_text("x")
    before = set(tmp_path.iterdir())
    assert sweep(tmp_path) == 1
    assert before - set(tmp_path.iterdir()) == {tmp_path / f"{PREFIX}dead{SUFFIX}"}
    assert sweep(tmp_path / "absent") == 0


def test_a_lock_is_held_for_as_long_as_the_file_is_pending_and_no_longer(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    for number in range(20):
        pending = Pending(tmp_path / f"{number}.csv")
        pending.commit() if number % 2 else pending.discard()
        pending.discard()  # harmless
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


def test_writers_and_sweepers_at_once_lose_nothing(tmp_path: Path) -> None:
    """A file is swept between its making and its lock once in a while: then another one is made."""
    folder = tmp_path / "many"
    folder.mkdir()
    code = """
import sys, time
from pathlib import Path
from facecam.video.atomic import atomic_bytes, sweep
folder, me, end = Path(sys.argv[1]), sys.argv[2], time.monotonic() + 1.0
count = 0
while time.monotonic() < end:
    sweep(folder)
    atomic_bytes(folder / f"{me}-{count}", b"x")
    count += 1
print(count)
"""
    some = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), str(me)], stdout=subprocess.PIPE, text=True)
        for me in range(3)
    ]
    counts = [int(process.communicate(timeout=60)[0]) for process in some]
    assert all(process.returncode == 0 for process in some)
    assert len(list(folder.iterdir())) == sum(counts) > 3


def test_a_label_run_that_is_killed_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    from tests.fakes import make_clip, numbered

    clip = make_clip(tmp_path / "clip.mp4", [numbered(index % 12) for index in range(600)])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "facecam", "label", str(clip), "-o", str(out), "--overwrite"]
    environment = os.environ | {"FACECAM_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while not left(out) and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        first.kill()
    assert left(out), "killed too late, or it does not write so any more"
    done = subprocess.run([*command, "--no-video"], env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not left(out)


def test_what_an_exit_between_making_and_guarding_left_goes_with_the_process(tmp_path: Path) -> None:
    code = (
        "import sys; from facecam.video import atomic; kept = atomic.Pending(sys.argv[1]); kept.temp.write_text('x');"
        " kept.commit(); atomic.Pending(sys.argv[2]); sys.exit(3)"
    )
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run([sys.executable, "-c", code, str(out / "a"), str(out / "b")], check=False)
    assert done.returncode == 3 and [path.name for path in out.iterdir()] == ["a"]
