"""Feeds hostile files to the commands that take files from strangers, and watches.

    python -m fuzz.hostile --count 10000

Each file goes alone through ``facecam enroll``, ``label``, ``people import`` or ``models add``, in a process whose
memory and time are watched. A fault is: a traceback, a crash, more than 5 s of computing, more than 1 GiB of memory,
more than one line of refusal, or an exit code that is in no table.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

SECONDS_MAX: Final = 5.0
#: Lines that a file may bring which was taken.
NOTES_MAX: Final = 3
MEMORY_MAX: Final = 1 << 30
#: Wall-clock seconds after which a silent worker is taken for hung; other work may slow it down.
SILENCE: Final = 300
CODES: Final = (0, 1, 2, 10, 11, 12, 13, 14)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One file for one command; a special file by its place in the list, else a mutation by its seed."""

    route: str
    special: int | None
    seed: int


#: Of a hundred mutations so many are for each command and kind of file.
_SHARES: Final = (("enroll photo", 38), ("label photo", 22), ("label video", 12), ("import", 22), ("model", 6))


def jobs(count: int, seed: int, specials: dict[str, int]) -> list[Job]:
    """The special files through every command that takes their kind, then mutations up to ``count``."""
    routes = {"photo": ("enroll photo", "label photo"), "video": ("label video",), "export": ("import",)}
    made = [Job(route, i, 0) for kind, number in specials.items() for route in routes[kind] for i in range(number)]
    names = [name for name, share in _SHARES for _ in range(share)]
    chance = random.Random(seed)
    return made + [Job(chance.choice(names), None, seed * 1_000_000 + i) for i in range(max(0, count - len(made)))]


class Victim:
    """The commands, in this process, with the models opened once."""

    def __init__(self, folder: Path, specials: bool) -> None:
        from facecam.cli import common
        from facecam.engine import open_engine
        from facecam.settings import Settings
        from fuzz import files, special

        self.folder = folder
        engine = open_engine(Settings(device="cpu", threads=1))
        common.open_engine = lambda given, *rest, **more: dataclasses.replace(engine, settings=given)
        self.valid: dict[str, list[tuple[str, bytes]]] = {
            "photo": sorted(files.photos().items()),
            "video": sorted(files.videos().items()),
            "import": [("people.json", files.export())],
            "model": [("model.onnx", files.model())],
        }
        self.gallery = self._gallery(engine.embedder.space, engine.embedder.dim)
        self.special: dict[str, list[Path]] = {}
        for kind, make in special.SPECIAL.items() if specials else ():
            (folder / kind).mkdir()
            self.special[kind] = make(folder / kind)

    def _gallery(self, space: str, dim: int) -> bytes:
        """A gallery of one person, for each file anew: whom one brought must not change what becomes of the next."""
        import numpy as np

        from facecam.people.gallery import Gallery
        from facecam.values import Sample, Template

        path = self.folder / "gallery.db"
        with Gallery.open(path) as gallery:
            vector = np.eye(1, dim, dtype=np.float32)[0]
            gallery.add("Somebody", [Sample(Template(vector, space), "0" * 64, "x.jpg", 0.5)])
        return path.read_bytes()

    def feed(self, job: Job) -> dict[str, Any]:
        """Run the command on the file; what happened."""
        from facecam.settings import home

        for file in home().glob("gallery.db*"):
            file.unlink()
        (home() / "gallery.db").write_bytes(self.gallery)
        path = self._file(job)
        command = {
            "enroll": ["enroll", "--name", "Nobody", str(path)],
            "label": ["label", str(path), "-o", str(self.folder / "out"), "--overwrite"],
            "import": ["people", "import", str(path), "--on-conflict", "merge"],
            "model": ["models", "add", str(path), "--name", "mutant", "--replace"],
        }[job.route.split()[0]]
        return {"file": path.name, **watched(command), "kept": str(path)}

    def _file(self, job: Job) -> Path:
        from fuzz.mutate import mutated, mutated_json

        if job.special is not None:
            kind = "export" if job.route == "import" else job.route.split()[1]
            return self.special[kind][job.special]
        chance = random.Random(job.seed)
        name, data = chance.choice(self.valid[job.route.split()[-1]])
        path = self.folder / f"{job.seed}-{name}"
        path.write_bytes((mutated_json if job.route == "import" else mutated)(data, chance))
        return path


def watched(command: list[str]) -> dict[str, Any]:
    """Run ``facecam`` in this process; exit code, output, fault, CPU seconds, highest memory in bytes."""
    from facecam.cli import invoke

    reset_peak()
    began, out, err, fault, code = time.process_time(), io.StringIO(), io.StringIO(), None, None
    with native_stderr() as noise, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = invoke(command)
        except Exception as error:  # what a user would see as a traceback; reported, not hidden
            fault = f"{type(error).__name__}: {error}"
    return {
        "code": code,
        "fault": fault,
        "out": out.getvalue()[-300:],
        "err": (err.getvalue() + noise())[:600],
        "lines": (err.getvalue() + noise()).count("\n"),
        "seconds": time.process_time() - began,
        "memory": peak(),
    }


def faults_of(result: dict[str, Any]) -> list[str]:
    """What is wrong with a result, nothing if it is a clean refusal or acceptance."""
    wrong = []
    if result["fault"] is not None or "Traceback" in result["err"]:
        wrong.append("traceback")
    if result["seconds"] > SECONDS_MAX:
        wrong.append("slow")
    if result["memory"] > MEMORY_MAX:
        wrong.append("memory")
    # A refusal is one line; a video that was labelled as far as it goes may say what of picture and sound was damaged.
    if result["lines"] > (NOTES_MAX if result["code"] == 0 else 1) or "\x1b" in result["err"] + result["out"]:
        wrong.append("lines")
    if result["fault"] is None and result["code"] not in CODES:
        wrong.append("code")
    return wrong


@contextlib.contextmanager
def native_stderr() -> Iterator[Callable[[], str]]:
    """Catch what libraries print past Python; the text is there after the block, too."""
    sys.stderr.flush()
    kept = os.dup(2)
    caught: list[str] = []
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: caught[0]
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.append(os.pread(file.fileno(), 10_000, 0).decode(errors="replace"))


def reset_peak() -> None:
    """Let the kernel count the highest memory from now on (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Highest resident memory since `reset_peak`, bytes; 0 where nobody counts."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def work(folder: Path, count: int, seed: int, first: int, specials: bool) -> None:
    """The watched process: a line of JSON for each job."""
    victim = Victim(folder, specials)
    todo = jobs(count, seed, {kind: len(paths) for kind, paths in victim.special.items()})
    print(json.dumps({"jobs": len(todo)}), flush=True)
    for number, job in enumerate(todo[first:], first):
        result = victim.feed(job)
        result |= {"number": number, "route": job.route, "special": job.special is not None}
        print(json.dumps(result), flush=True)
        if job.special is None and not faults_of(result):
            Path(result["kept"]).unlink(missing_ok=True)
        shutil.rmtree(folder / "out", ignore_errors=True)


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """The worker's lines; ends when it ends, or is silent for too long (then it is killed)."""
    assert process.stdout is not None
    buffer = b""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], SILENCE)
        if not ready:
            process.kill()
            return
        data = os.read(process.stdout.fileno(), 1 << 16)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from lines


def run(
    count: int, seed: int, keep: Path | None = None, *, specials: bool = True
) -> tuple[Counter[str], list[dict[str, Any]], dict[str, float]]:
    """Feed so many files. Returns counts by route and outcome, the faults, and the worst figures."""
    counts: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    worst = {"seconds": 0.0, "memory": 0.0}
    done, total = 0, 1
    while done < total:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "home"
            home.mkdir(mode=0o700)
            (home / "models").symlink_to(Path(os.environ["FACECAM_HOME"]) / "models")
            arguments = ["--work", folder, "--count", str(count), "--seed", str(seed), "--first", str(done)]
            arguments += [] if specials else ["--no-specials"]
            process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.hostile", *arguments],
                stdout=subprocess.PIPE,
                env={**os.environ, "FACECAM_HOME": str(home)},
            )
            for line in lines_of(process):
                result = json.loads(line)
                if "jobs" in result:
                    total = result["jobs"]
                    continue
                done = result["number"] + 1
                wrong = faults_of(result)
                outcome = "accepted" if result["code"] == 0 else "refused"
                counts[f"{result['route']}: {outcome}"] += 1
                worst = {key: max(value, result[key]) for key, value in worst.items()}
                if wrong:
                    bad.append({"wrong": wrong, **result})
                    kept = Path(result["kept"])
                    if keep is not None and not result["special"] and kept.is_file():
                        shutil.copy(kept, keep / kept.name)
            if process.wait() != 0:
                bad.append({"wrong": [f"the process ended with {process.returncode}"], "number": done})
                done += 1
    return counts, bad, worst


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--count", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--keep", type=Path, help="folder for the files that made a fault")
    arguments.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    arguments.add_argument("--no-specials", action="store_true", help="mutations only")
    given = arguments.parse_args()
    if given.work is not None:
        work(given.work, given.count, given.seed, given.first, not given.no_specials)
        return 0
    with tempfile.TemporaryDirectory() as home:
        from facecam.zoo.packs import Zoo

        if "FACECAM_HOME" not in os.environ:
            os.environ["FACECAM_HOME"] = home
        Zoo(Path(os.environ["FACECAM_HOME"]), notify=lambda line: None).ensure("dlib")
        if given.keep is not None:
            given.keep.mkdir(exist_ok=True, parents=True)
        counts, bad, worst = run(given.count, given.seed, given.keep, specials=not given.no_specials)
    for name, number in sorted(counts.items()):
        print(f"{number:6} {name}")
    for fault in bad:
        print(json.dumps(fault))
    print(
        f"{sum(counts.values())} files, {len(bad)} faults; the longest took {worst['seconds']:.2f} s of computing, "
        f"the highest memory was {worst['memory'] / 2**20:.0f} MiB"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
